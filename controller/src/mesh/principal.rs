//! Who sends a report, as the mesh proved it, and for which proxies that one may speak.
//!
//! Istio's proxy before us puts the client's certificate into `x-forwarded-client-cert`; its URI names the namespace
//! and the service account. A report also names an Envoy, by an id that contains its pod. That pod must exist and run as
//! that account: otherwise whoever has any identity in the mesh could speak for somebody else's gateway, or invent
//! witnesses until they are the majority, and no rule of the judge about single proxies would help. Pods of one account
//! cannot be told apart: a workload that is taken over can speak for all of its replicas.

use super::cluster::{Name, PodFacts, Store};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Refusals that are told; after so many different ones somebody only makes noise.
const MOST_REFUSED: usize = 256;

/// A service account of the mesh. Prints as an AuthorizationPolicy writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    trust_domain: String,
    namespace: String,
    account: String,
}

/// Which pods there are.
#[derive(Debug, Default)]
pub struct Pods(Mutex<Listed>);

#[derive(Debug, Default)]
struct Listed {
    accounts: BTreeMap<Name, String>,
    /// Why reports were refused, each told once.
    refused: BTreeSet<String>,
    /// False before the first list and while the watch is broken: then a pod that we do not know may be a new one, and
    /// its reports must not wait for the API server.
    current: bool,
}

// === impl Principal ===

impl Principal {
    /// From the header that Istio's proxy sets. The last element is the one that this proxy added itself; a client may
    /// have sent others.
    pub fn of_header(forwarded_client_cert: &str) -> Option<Principal> {
        let last = forwarded_client_cert.rsplit(',').next()?;
        let uri = last.split(';').find_map(|pair| pair.trim().strip_prefix("URI=spiffe://"))?;
        let mut parts = uri.trim_end_matches('"').split('/');
        let named = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
        let trust_domain = named(parts.next())?;
        let namespace = (parts.next()? == "ns").then(|| named(parts.next()))??;
        let account = (parts.next()? == "sa").then(|| named(parts.next()))??;
        parts.next().is_none().then_some(Principal { trust_domain, namespace, account })
    }

    /// Whether it may report for an Envoy of this id.
    ///
    /// # Errors
    /// A sentence for whoever runs that Envoy.
    pub fn speaks_for(&self, proxy: &str, pods: &Pods) -> Result<(), String> {
        let Some((pod, namespace)) = pod_of(proxy) else {
            return Err(format!("{proxy:?} is no id of an Envoy in Istio: TYPE~IP~POD.NAMESPACE~DOMAIN"));
        };
        if namespace != self.namespace {
            return Err(format!("{self} may not report for a proxy in namespace {namespace}"));
        }
        match pods.account_of(namespace, pod) {
            None => Err(format!("{self} reports for pod {namespace}/{pod}, which does not exist")),
            Some(Some(account)) if account != self.account => {
                Err(format!("{self} may not report for pod {namespace}/{pod}, which runs as {account}"))
            }
            Some(_) => Ok(()),
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/ns/{}/sa/{}", self.trust_domain, self.namespace, self.account)
    }
}

/// Pod and namespace in an Envoy's id, `router~10.1.2.3~gateway-5d8f.shop~shop.svc.cluster.local`.
pub fn pod_of(proxy: &str) -> Option<(&str, &str)> {
    // A pod's name may have dots, a namespace's has none.
    let (pod, namespace) = proxy.split('~').nth(2)?.rsplit_once('.')?;
    (!pod.is_empty() && !namespace.is_empty()).then_some((pod, namespace))
}

// === impl Pods ===

impl Pods {
    /// Takes over what the watch told about these.
    pub fn follow(&self, store: &Store<PodFacts>, changed: &[Name]) {
        let mut listed = self.lock();
        listed.current = store.synced && store.trouble.is_none();
        for name in changed {
            match store.get(&name.0, &name.1) {
                Some(facts) => _ = listed.accounts.insert(name.clone(), facts.account.clone()),
                None => _ = listed.accounts.remove(name),
            }
        }
    }

    /// Whether a refusal with these words is the first; a stranger makes only so many.
    pub fn is_new(&self, why: &str) -> bool {
        let mut listed = self.lock();
        listed.refused.len() < MOST_REFUSED && listed.refused.insert(why.to_owned())
    }

    /// The account of a pod; `Some(None)`: it may have come while nobody could tell. `None`: there is no such pod.
    fn account_of(&self, namespace: &str, pod: &str) -> Option<Option<String>> {
        let listed = self.lock();
        let account = listed.accounts.get(&(namespace.to_owned(), pod.to_owned())).cloned();
        (account.is_some() || !listed.current).then_some(account)
    }

    fn lock(&self) -> MutexGuard<'_, Listed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::cluster::Told;
    use super::*;

    const GATEWAY: &str = "router~10.1.2.3~gw-0.istio-system~istio-system.svc.cluster.local";
    const CERT: &str = "By=spiffe://cluster.local/ns/hueshift-system/sa/hueshift;Hash=ab;Subject=\"\";\
                        URI=spiffe://cluster.local/ns/istio-system/sa/gw";

    fn run_as(account: &str) -> PodFacts {
        PodFacts { account: account.to_owned(), ..PodFacts::default() }
    }

    fn pods(names: &[(&str, &str)]) -> (Store<PodFacts>, Pods) {
        let (mut store, pods) = (Store::default(), Pods::default());
        store.take(Told::Begin);
        for (namespace, name) in names {
            store.take(Told::Fill(((*namespace).to_owned(), (*name).to_owned()), run_as("gw")));
        }
        let changed = store.take(Told::End);
        pods.follow(&store, &changed);
        (store, pods)
    }

    #[test]
    fn the_last_element_says_who_it_is() {
        let forged = "By=x;URI=spiffe://cluster.local/ns/istio-system/sa/gw";
        let real = "By=y;Hash=1;Subject=\"CN=a\";URI=spiffe://cluster.local/ns/evil/sa/me";
        let said = |text: &str| Principal::of_header(text).map(|principal| principal.to_string());
        assert_eq!(said(CERT).unwrap(), "cluster.local/ns/istio-system/sa/gw");
        assert_eq!(said(&format!("{forged},{real}")).unwrap(), "cluster.local/ns/evil/sa/me");
        for none in [
            "",
            "By=spiffe://cluster.local/ns/a/sa/b",
            "URI=https://x",
            "URI=spiffe://cluster.local",
            "URI=spiffe://cluster.local/ns//sa/b",
            "URI=spiffe://cluster.local/ns/a/sa/b/more",
            &format!("{CERT},By=z;Hash=2"),
        ] {
            assert_eq!(said(none), None, "{none}");
        }
    }

    #[test]
    fn it_speaks_for_pods_that_run_as_it() {
        let gateway = Principal::of_header(CERT).unwrap();
        let other = Principal::of_header(&CERT.replace("sa/gw", "sa/other")).unwrap();
        let (_, pods) = pods(&[("istio-system", "gw-0"), ("shop", "gw-0"), ("istio-system", "gw.with.dots")]);
        let says = |proxy: &str| gateway.speaks_for(proxy, &pods);
        assert_eq!(says(GATEWAY), Ok(()));
        assert!(other.speaks_for(GATEWAY, &pods).unwrap_err().contains("which runs as gw"));
        assert_eq!(says("router~10.1.2.3~gw.with.dots.istio-system~x"), Ok(()));
        assert!(says(&GATEWAY.replace("gw-0", "gw-1")).unwrap_err().contains("does not exist"));
        assert!(says("sidecar~10.1.2.3~gw-0.shop~x").unwrap_err().contains("namespace shop"));
        for nonsense in ["", "gw-0", "a~b~c~d", "a~b~.istio-system~d", "a~b~gw-0.~d"] {
            assert!(says(nonsense).is_err(), "{nonsense}");
        }
    }

    #[test]
    fn a_new_pod_is_heard_while_the_api_server_is_away_and_a_deleted_one_is_not_heard_any_more() {
        let gateway = Principal::of_header(CERT).unwrap();
        assert_eq!(gateway.speaks_for(GATEWAY, &Pods::default()), Ok(()), "nothing is listed yet");
        let (mut store, pods) = pods(&[("istio-system", "gw-0")]);
        let new = GATEWAY.replace("gw-0", "gw-1");
        let changed = store.take(Told::Trouble("away".to_owned()));
        pods.follow(&store, &changed);
        assert_eq!(gateway.speaks_for(&new, &pods), Ok(()));
        let changed = store.take(Told::Put(("istio-system".to_owned(), "gw-1".to_owned()), run_as("gw")));
        pods.follow(&store, &changed);
        let changed = store.take(Told::Gone(("istio-system".to_owned(), "gw-0".to_owned())));
        pods.follow(&store, &changed);
        assert_eq!(gateway.speaks_for(&new, &pods), Ok(()));
        assert!(gateway.speaks_for(GATEWAY, &pods).is_err());
        assert_eq!(["a", "a", "b"].map(|why| pods.is_new(why)), [true, false, true]);
    }
}
