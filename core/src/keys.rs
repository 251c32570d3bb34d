//! Finds the session key in a request's headers, in one pass over the raw buffer that the proxy hands out.
//!
//! Why raw: one host call gives all headers, and clients put bytes into them that are no text. Nothing is
//! copied, nothing is decoded: a key is whatever bytes stand there, so that every gateway sees the same ones.
//! A value that is empty counts as absent; the first of several wins. Query parameters and cookies are taken as
//! written (no percent-decoding, quotes kept). What this module deliberately does not do: drawing.
//!
//! Layout (proxy-wasm ABI 0.2): `u32` count, then per header the sizes of name and value, then name, NUL, value,
//! NUL for each; all integers little endian.

use crate::contract::COLOR_HEADER;
use crate::route_plan::KeyRule;

/// The headers of a raw header map.
#[derive(Debug, Clone)]
pub struct RawHeaders<'a> {
    sizes: &'a [u8],
    texts: &'a [u8],
}

/// The buffer ends before the headers that it announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CutShort;

/// What the lottery needs to know about a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Found<'a> {
    /// The session key by the first rule that finds one.
    pub key: Option<&'a [u8]>,
    /// `x-request-id`.
    pub request_id: Option<&'a [u8]>,
    /// The client sent a color header of its own.
    pub client_color: bool,
    /// The buffer was cut short: what is found came before the cut.
    pub cut_short: bool,
}

// === impl RawHeaders ===

impl<'a> RawHeaders<'a> {
    /// Splits a buffer into sizes and texts; of a cut one nothing is read.
    pub fn new(raw: &'a [u8]) -> Result<RawHeaders<'a>, CutShort> {
        let (count, rest) = take_u32(raw).ok_or(CutShort)?;
        let sizes_len = (count as usize).checked_mul(8).ok_or(CutShort)?;
        let (sizes, texts) = rest.split_at_checked(sizes_len).ok_or(CutShort)?;
        Ok(RawHeaders { sizes, texts })
    }
}

impl<'a> Iterator for RawHeaders<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), CutShort>;

    /// After a cut nothing follows, so any buffer takes at most as many steps as it has bytes.
    fn next(&mut self) -> Option<Self::Item> {
        let (name_len, rest) = take_u32(self.sizes)?;
        let (value_len, rest) = take_u32(rest)?;
        self.sizes = rest;
        let header = take_text(self.texts, name_len).and_then(|(name, rest)| {
            let (value, rest) = take_text(rest, value_len)?;
            self.texts = rest;
            Some((name, value))
        });
        if header.is_none() {
            self.sizes = &[];
        }
        Some(header.ok_or(CutShort))
    }
}

fn take_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_le_bytes(*number), rest))
}

/// A text of `len` bytes and the NUL behind it.
fn take_text(bytes: &[u8], len: u32) -> Option<(&[u8], &[u8])> {
    let (text, rest) = bytes.split_at_checked(len as usize)?;
    let (_nul, rest) = rest.split_first()?;
    Some((text, rest))
}

// === finding ===

/// Looks up the key rules, the request id and a client's color header.
pub fn find<'a>(raw: &'a [u8], rules: &[KeyRule]) -> Found<'a> {
    let mut found = Found::default();
    let Ok(headers) = RawHeaders::new(raw) else {
        return Found { cut_short: true, ..found };
    };
    // Rules from here on can no longer win: an earlier one has found a key.
    let mut open = rules;
    for header in headers {
        let Ok((name, value)) = header else {
            found.cut_short = true;
            break;
        };
        if name.eq_ignore_ascii_case(COLOR_HEADER.as_bytes()) {
            found.client_color = true;
        }
        if name == b"x-request-id" {
            found.request_id = found.request_id.or(non_empty(value));
        }
        let hit = open.iter().enumerate().find_map(|(at, rule)| Some((at, look_up(rule, name, value)?)));
        if let Some((at, key)) = hit {
            found.key = Some(key);
            open = open.get(..at).unwrap_or_default();
        }
    }
    found
}

/// What a rule finds in one header.
fn look_up<'a>(rule: &KeyRule, name: &[u8], value: &'a [u8]) -> Option<&'a [u8]> {
    match rule {
        KeyRule::Header(wanted) if name.eq_ignore_ascii_case(wanted.as_bytes()) => non_empty(value),
        KeyRule::Cookie(wanted) if name == b"cookie" => {
            named(value.split(|byte| *byte == b';').map(<[u8]>::trim_ascii), wanted.as_bytes())
        }
        KeyRule::Query(wanted) if name == b":path" => {
            let before_fragment = value.split(|byte| *byte == b'#').next()?;
            let query = before_fragment.splitn(2, |byte| *byte == b'?').nth(1)?;
            named(query.split(|byte| *byte == b'&'), wanted.as_bytes())
        }
        _ => None,
    }
}

/// The first non-empty value of `name=value` among the pairs.
fn named<'a>(mut pairs: impl Iterator<Item = &'a [u8]>, name: &[u8]) -> Option<&'a [u8]> {
    pairs.find_map(|pair| {
        let value = pair.strip_prefix(name)?.strip_prefix(b"=")?;
        non_empty(value)
    })
}

fn non_empty(value: &[u8]) -> Option<&[u8]> {
    (!value.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::{String, ToString};
    use alloc::vec::Vec;
    use alloc::{format, vec};
    use proptest::prelude::*;

    type Owned = (Vec<u8>, Vec<u8>);

    fn raw(headers: &[Owned]) -> Vec<u8> {
        let mut raw = (headers.len() as u32).to_le_bytes().to_vec();
        for (name, value) in headers {
            raw.extend((name.len() as u32).to_le_bytes());
            raw.extend((value.len() as u32).to_le_bytes());
        }
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            raw.extend(text);
            raw.push(0);
        }
        raw
    }

    fn headers(pairs: &[(&str, &str)]) -> Vec<Owned> {
        pairs.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
    }

    fn key(pairs: &[(&str, &str)], rules: &[KeyRule]) -> Option<String> {
        find(&raw(&headers(pairs)), rules).key.map(|key| String::from_utf8(key.to_vec()).unwrap())
    }

    fn header(name: &str) -> KeyRule {
        KeyRule::Header(name.to_string())
    }
    fn cookie(name: &str) -> KeyRule {
        KeyRule::Cookie(name.to_string())
    }
    fn query(name: &str) -> KeyRule {
        KeyRule::Query(name.to_string())
    }

    #[test]
    fn the_first_rule_that_finds_something_wins_whatever_the_order_of_headers() {
        let rules = [header("x-user"), cookie("sid"), query("u")];
        let all = [(":path", "/a?u=3"), ("cookie", "sid=2"), ("x-user", "1")];
        assert_eq!(key(&all, &rules).as_deref(), Some("1"));
        assert_eq!(key(&[all[2], all[1], all[0]], &rules).as_deref(), Some("1"));
        assert_eq!(key(&all[..2], &rules).as_deref(), Some("2"));
        assert_eq!(key(&all[..1], &rules).as_deref(), Some("3"));
        assert_eq!(key(&[(":path", "/a")], &rules), None);
        assert_eq!(key(&all, &[]), None);
    }

    #[test]
    fn an_empty_key_is_an_absent_key() {
        let rules = [header("x-user"), cookie("sid"), query("u")];
        let none = [("x-user", ""), ("cookie", "sid=; sid"), (":path", "/?u=&u")];
        assert_eq!(key(&none, &rules), None);
        let later = [("x-user", ""), ("x-user", "b"), ("x-user", "c")];
        assert_eq!(key(&later, &rules).as_deref(), Some("b"));
    }

    #[test]
    fn cookies_are_read_by_hand() {
        let rules = [cookie("sid")];
        for (line, expected) in [
            ("sid=1", Some("1")),
            ("a=b; sid=1; c", Some("1")),
            ("a=b;sid=1;sid=2", Some("1")),
            ("xsid=0; sid2=0;\t sid=1 ", Some("1")),
            ("sid==1", Some("=1")),
            ("sid=\"q\"", Some("\"q\"")),
            ("SID=1", None),
            ("sid =1", None),
            (";;;=;==;", None),
            ("", None),
        ] {
            assert_eq!(key(&[("cookie", line)], &rules).as_deref(), expected, "{line:?}");
        }
        let crumbs = [("cookie", "a=b"), ("cookie", "sid=1")];
        assert_eq!(key(&crumbs, &rules).as_deref(), Some("1"));
    }

    #[test]
    fn query_parameters_end_at_the_fragment() {
        let rules = [query("u")];
        for (path, expected) in [
            ("/p?u=1", Some("1")),
            ("/p?a=0&u=1&u=2", Some("1")),
            ("/p?u=a?b", Some("a?b")),
            ("/p?u=%31", Some("%31")),
            ("/p#?u=1", None),
            ("/p?a#&u=1", None),
            ("/u=1", None),
            ("?", None),
        ] {
            assert_eq!(key(&[(":path", path)], &rules).as_deref(), expected, "{path:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_keys_too() {
        let wild = vec![(b"x-user".to_vec(), vec![0xff, 0, 0xfe, b';'])];
        let raw = raw(&wild);
        assert_eq!(find(&raw, &[header("x-user")]).key, Some(&[0xff, 0, 0xfe, b';'][..]));
    }

    #[test]
    fn a_long_key_is_found_whole_among_two_hundred_headers() {
        let long = "k".repeat(8192);
        let mut all: Vec<Owned> = (0..200).map(|n| (format!("x-{n}").into_bytes(), b"v".to_vec())).collect();
        all.push((b"x-user".to_vec(), long.clone().into_bytes()));
        assert_eq!(find(&raw(&all), &[header("x-user")]).key, Some(long.as_bytes()));
    }

    #[test]
    fn the_clients_color_and_the_request_id_are_seen() {
        let raw =
            raw(&headers(&[("X-Hueshift-Color", "green"), ("x-request-id", ""), ("x-request-id", "r")]));
        let found = find(&raw, &[]);
        assert!(found.client_color && !found.cut_short);
        assert_eq!(found.request_id, Some(&b"r"[..]));
    }

    #[test]
    fn a_buffer_cut_anywhere_gives_what_came_before_the_cut() {
        let raw = raw(&headers(&[("x-user", "1"), ("x-request-id", "r")]));
        for end in 0..raw.len() {
            let found = find(&raw[..end], &[header("x-user")]);
            assert!(found.cut_short, "{end}");
            assert!(found.key.is_none_or(|key| key == b"1"));
        }
        assert!(!find(&raw, &[]).cut_short);
    }

    /// The same answer, slowly: all values of each rule in turn, over parsed copies.
    fn naive(all: &[Owned], rules: &[KeyRule]) -> Option<Vec<u8>> {
        let text = |bytes: &[u8]| bytes.iter().map(|byte| *byte as char).collect::<String>();
        let values = |wanted: &str| -> Vec<String> {
            all.iter().filter(|(name, _)| text(name) == wanted).map(|(_, value)| text(value)).collect()
        };
        let pair = |name: &str, pairs: Vec<String>| -> Option<String> {
            let start = format!("{}=", text(name.as_bytes()));
            pairs
                .iter()
                .filter_map(|pair| pair.strip_prefix(&start))
                .find(|v| !v.is_empty())
                .map(str::to_string)
        };
        let ws = |c: char| matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0c');
        rules.iter().find_map(|rule| {
            let found = match rule {
                KeyRule::Header(name) => values(name).into_iter().find(|value| !value.is_empty()),
                KeyRule::Cookie(name) => {
                    let all = values("cookie").join(";");
                    pair(name, all.split(';').map(|part| part.trim_matches(ws).to_string()).collect())
                }
                KeyRule::Query(name) => values(":path").iter().find_map(|path| {
                    let path = path.split('#').next().unwrap_or_default();
                    let (_, query) = path.split_once('?')?;
                    pair(name, query.split('&').map(str::to_string).collect())
                }),
            };
            found.map(|key| key.chars().map(|c| c as u8).collect())
        })
    }

    fn any_header() -> impl Strategy<Value = Owned> {
        let value = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..12),
            "(sid|u|a)?[=;&? #a]{0,6}(sid|u)?=?[a-c ]{0,2}[;&]?( u=1| sid=2)?".prop_map(String::into_bytes),
        ];
        ("x-user|cookie|:path|x-request-id|x-b", value).prop_map(|(name, value)| (name.into_bytes(), value))
    }

    proptest! {
        #[test]
        fn one_pass_finds_what_the_naive_way_finds(
            all in prop::collection::vec(any_header(), 0..8),
            rules in prop::collection::vec(prop::sample::select(vec![header("x-user"), header("x-b"), cookie("sid"), cookie("u"), query("u"), query("sid")]), 0..4),
        ) {
            let raw = raw(&all);
            prop_assert_eq!(find(&raw, &rules).key.map(<[u8]>::to_vec), naive(&all, &rules));
        }

        #[test]
        fn any_bytes_are_scanned_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..100), count in 0u32..4) {
            let rules = [header("x"), cookie("c"), query("q")];
            find(&bytes, &rules);
            find(&[&count.to_le_bytes()[..], &bytes].concat(), &rules);
        }
    }
}
