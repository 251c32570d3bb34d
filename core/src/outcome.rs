//! How a request ended, and what that says about the color that served it. [`Outcome::row`] is the table, for
//! the code and for the reader.
//!
//! One rule decides: an outcome counts against a color only if the color (or the way to it) failed. A client that
//! went away says nothing; a client's own mistake (4xx) is an answer, and whoever wants to judge by it names it
//! as a metric of its own. Judged is the *final* outcome after the proxy's retries.
//! Deliberately absent: error events inside a 200 stream, which need a look into bodies.

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// An answer below 400, or gRPC `OK`.
    Success,
    /// An answer 4xx, or a gRPC code that blames the caller.
    ClientError,
    /// An answer 5xx, from the model or from the proxy on its behalf.
    ServerError,
    /// A gRPC code that blames the server.
    GrpcError,
    /// The connection broke before an answer came.
    Reset,
    /// The proxy gave up waiting.
    Timeout,
    /// There was no server to ask.
    NoUpstream,
    /// The answer began and did not end.
    Truncated,
    /// An answer whose prediction is no number, or none that the document allows.
    InvalidPrediction,
    /// The client went away first.
    ClientGone,
    /// Nobody knows: the proxy says neither status nor reason (it shut down, for instance).
    Unknown,
}

/// What an outcome says about the color that served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counts {
    /// For it.
    Success,
    /// Against it.
    Error,
    /// Nothing.
    Neither,
}

/// What the proxy knows at the end of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ending {
    /// HTTP status, if response headers were seen.
    pub status: Option<u16>,
    /// gRPC status, if the response carried one.
    pub grpc: Option<u32>,
    /// The response was seen to its end.
    pub finished: bool,
    /// Envoy's response flags (bit vector); 0 if not read. Needed only if `finished` is false.
    pub flags: u64,
}

/// Envoy's response flags by meaning: bits of the `response.flags` attribute (`UH` is bit 1, and so on).
mod flags {
    const fn bits(places: &[u32]) -> u64 {
        let mut bits = 0;
        let mut rest = places;
        while let [place, others @ ..] = rest {
            bits |= 1 << *place;
            rest = others;
        }
        bits
    }
    /// DC, DPE, DR: the downstream connection ended, broke the protocol, or reset the stream.
    pub const CLIENT_GONE: u64 = bits(&[14, 18, 28]);
    /// LH, UH, UO, NR, NC, DF, DO, UDO: no host, no route or no room to send the request to.
    pub const NO_UPSTREAM: u64 = bits(&[0, 1, 7, 8, 24, 26, 27, 29]);
    /// UT, SI, UMSDR, DT: a timeout of the upstream, of the idle stream or of its longest duration.
    pub const TIMEOUT: u64 = bits(&[2, 16, 19, 22]);
    /// LR, UR, UF, UC, URX, UPE: the upstream's connection or stream broke.
    pub const RESET: u64 = bits(&[3, 4, 5, 6, 15, 23]);
}

// === impl Outcome ===

impl Outcome {
    /// All outcomes, in the order of their numbers (`outcome as usize`).
    pub const ALL: [Outcome; 11] = [
        Outcome::Success,
        Outcome::ClientError,
        Outcome::ServerError,
        Outcome::GrpcError,
        Outcome::Reset,
        Outcome::Timeout,
        Outcome::NoUpstream,
        Outcome::Truncated,
        Outcome::InvalidPrediction,
        Outcome::ClientGone,
        Outcome::Unknown,
    ];

    /// The table: name on the wire, what it counts as, what it is.
    pub const fn row(self) -> (&'static str, Counts, &'static str) {
        match self {
            Outcome::Success => ("success", Counts::Success, "an answer below 400, or gRPC OK"),
            Outcome::ClientError => {
                ("client_error", Counts::Success, "4xx, or a gRPC code that blames the caller")
            }
            Outcome::ServerError => ("server_error", Counts::Error, "5xx"),
            Outcome::GrpcError => ("grpc_error", Counts::Error, "a gRPC code that blames the server"),
            Outcome::Reset => ("reset", Counts::Error, "the connection broke before an answer"),
            Outcome::Timeout => ("timeout", Counts::Error, "the proxy gave up waiting"),
            Outcome::NoUpstream => ("no_upstream", Counts::Error, "no server to ask"),
            Outcome::Truncated => ("truncated", Counts::Error, "the answer began and did not end"),
            Outcome::InvalidPrediction => {
                ("invalid_prediction", Counts::Error, "a prediction that is no number or out of range")
            }
            Outcome::ClientGone => ("client_gone", Counts::Neither, "the client went away first"),
            Outcome::Unknown => ("unknown", Counts::Neither, "the proxy gives no reason"),
        }
    }

    /// The name used in reports and metrics.
    pub const fn name(self) -> &'static str {
        self.row().0
    }

    /// What it says about the color.
    pub const fn counts_as(self) -> Counts {
        self.row().1
    }

    /// Decides from what the proxy knows; what a successful answer predicts is looked at afterwards. A code or a 5xx that arrived is final, whatever happened afterwards; of
    /// a response that did not end, the client's leaving is asked first, since it also breaks the upstream side.
    pub fn classify(ending: &Ending) -> Outcome {
        let has = |bits: u64| ending.flags & bits != 0;
        match (ending.grpc, ending.status) {
            (Some(code), _) => Outcome::of_grpc(code),
            (None, Some(500..)) => Outcome::ServerError,
            (None, Some(400..)) if ending.finished => Outcome::ClientError,
            (None, Some(_)) if ending.finished => Outcome::Success,
            _ if has(flags::CLIENT_GONE) => Outcome::ClientGone,
            // An upgraded connection ends when either side closes it.
            (None, Some(101)) => Outcome::Success,
            _ if has(flags::TIMEOUT) => Outcome::Timeout,
            (None, Some(_)) => Outcome::Truncated,
            _ if has(flags::NO_UPSTREAM) => Outcome::NoUpstream,
            _ if has(flags::RESET) => Outcome::Reset,
            (None, None) => Outcome::Unknown,
        }
    }

    /// The server's codes are those that the gRPC-to-HTTP mapping turns into 5xx, so that a service is judged
    /// alike over both protocols. `UNIMPLEMENTED` (501) is among them: a model without the method that clients
    /// call is a broken release. `RESOURCE_EXHAUSTED` (429) is not; a code beyond the list means `UNKNOWN`.
    fn of_grpc(code: u32) -> Outcome {
        match code {
            0 => Outcome::Success,
            // CANCELLED: by the caller.
            1 => Outcome::ClientGone,
            // INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS, PERMISSION_DENIED, RESOURCE_EXHAUSTED,
            // FAILED_PRECONDITION, ABORTED, OUT_OF_RANGE, UNAUTHENTICATED.
            3 | 5..=11 | 16 => Outcome::ClientError,
            // UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS, and beyond.
            _ => Outcome::GrpcError,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UH: u64 = 0x2;
    const UT: u64 = 0x4;
    const UR: u64 = 0x10;
    const UF: u64 = 0x20;
    const UC: u64 = 0x40;
    const DC: u64 = 0x4000;
    const SI: u64 = 0x10000;

    #[test]
    fn every_ending_has_one_outcome() {
        let finished = |status, grpc| Ending { status: Some(status), grpc, finished: true, flags: 0 };
        let broken = |status, flags| Ending { status, grpc: None, finished: false, flags };
        let cases = [
            (finished(200, None), Outcome::Success),
            (finished(101, None), Outcome::Success),
            (finished(304, None), Outcome::Success),
            (finished(404, None), Outcome::ClientError),
            (finished(429, None), Outcome::ClientError),
            (finished(500, None), Outcome::ServerError),
            (finished(503, None), Outcome::ServerError),
            (finished(599, None), Outcome::ServerError),
            (finished(200, Some(0)), Outcome::Success),
            (finished(200, Some(1)), Outcome::ClientGone),
            (finished(200, Some(3)), Outcome::ClientError),
            (finished(200, Some(8)), Outcome::ClientError),
            (finished(200, Some(12)), Outcome::GrpcError),
            (finished(200, Some(14)), Outcome::GrpcError),
            (finished(200, Some(16)), Outcome::ClientError),
            (finished(200, Some(99)), Outcome::GrpcError),
            (finished(503, Some(0)), Outcome::Success),
            (broken(Some(200), 0), Outcome::Truncated),
            (broken(Some(200), UR), Outcome::Truncated),
            (broken(Some(200), UT), Outcome::Timeout),
            (broken(Some(200), SI), Outcome::Timeout),
            (broken(Some(200), DC), Outcome::ClientGone),
            (broken(Some(200), DC | UC), Outcome::ClientGone),
            (broken(Some(404), 0), Outcome::Truncated),
            (broken(Some(101), UC), Outcome::Success),
            (broken(Some(500), DC), Outcome::ServerError),
            (broken(None, DC), Outcome::ClientGone),
            (broken(None, UH), Outcome::NoUpstream),
            (broken(None, UT), Outcome::Timeout),
            (broken(None, UF), Outcome::Reset),
            (broken(None, 0), Outcome::Unknown),
        ];
        for (ending, outcome) in cases {
            assert_eq!(Outcome::classify(&ending), outcome, "{ending:?}");
        }
    }

    #[test]
    fn only_failures_of_the_color_count_against_it() {
        let counting = |counts| Outcome::ALL.into_iter().filter(move |outcome| outcome.counts_as() == counts);
        assert!(counting(Counts::Success).eq([Outcome::Success, Outcome::ClientError]));
        assert!(counting(Counts::Neither).eq([Outcome::ClientGone, Outcome::Unknown]));
        assert_eq!(counting(Counts::Error).count(), 7);
    }

    #[test]
    fn an_outcomes_number_is_its_place_in_the_list() {
        assert!(Outcome::ALL.iter().enumerate().all(|(place, outcome)| *outcome as usize == place));
    }

    #[test]
    fn names_are_distinct_and_fit_a_metric() {
        let mut names = Outcome::ALL.map(Outcome::name);
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
        assert!(names.iter().all(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')));
    }
}
