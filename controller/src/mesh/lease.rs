//! Which process leads: a Lease in the controller's namespace. A second process waits.
//!
//! A lease does not fence: whoever takes it writes its term into open `BlueGreen`s before anything else, and a write
//! to their status tests the term. Here is only who may write: nobody whose lease has run out. An API server that is
//! away ends the right to write, not the judging; the right comes back with the next renewal.

use super::calls::{CallError, call};
use super::names;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long a lease lasts without renewal.
const LASTS: Duration = Duration::from_secs(15);
/// Of that, the last part is not used: clocks and calls take time.
const MARGIN: Duration = Duration::from_secs(3);
/// Between two renewals, and between two attempts of one that failed.
const RENEW: Duration = Duration::from_secs(4);
const RETRY: Duration = Duration::from_millis(500);
/// How often a process that waits looks.
const WAIT: Duration = Duration::from_secs(2);

/// The right to write.
#[derive(Debug)]
pub struct Tenure {
    term: AtomicU64,
    until: Mutex<Option<Instant>>,
    ended: watch::Sender<Option<String>>,
}

/// One process that wants to lead.
pub struct Candidate {
    api: Api<Lease>,
    holder: String,
}

/// The lease as another process holds it, and since when we see it so.
struct Watched {
    version: Option<String>,
    since: Instant,
}

// === impl Tenure ===

impl Default for Tenure {
    fn default() -> Self {
        Tenure { term: AtomicU64::new(0), until: Mutex::new(None), ended: watch::channel(None).0 }
    }
}

impl Tenure {
    /// Grows with each process that leads.
    pub fn term(&self) -> u64 {
        self.term.load(Ordering::Relaxed)
    }

    /// A higher term, once before anything is written: a term that was seen in a status must be below ours.
    pub fn begin(&self, term: u64) {
        self.term.fetch_max(term, Ordering::Relaxed);
    }

    /// Whether a write may begin now.
    ///
    /// # Errors
    /// Why not.
    pub fn may_write(&self) -> Result<(), String> {
        if let Some(why) = &*self.ended.borrow() {
            return Err(why.clone());
        }
        let until = *self.until.lock().unwrap_or_else(PoisonError::into_inner);
        match until {
            Some(until) if Instant::now() < until => Ok(()),
            Some(_) => Err("the lease could not be renewed: the API server is away".to_owned()),
            None => Err("another process leads".to_owned()),
        }
    }

    /// Somebody else leads: this process must not write any more, ever.
    pub fn lost(&self, why: &str) {
        self.ended.send_replace(Some(why.to_owned()));
    }

    /// Waits until it is lost.
    pub async fn end(&self) -> String {
        let mut ended = self.ended.subscribe();
        match ended.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }

    fn renewed(&self, asked: Instant) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = Some(asked + LASTS - MARGIN);
    }
}

// === impl Candidate ===

impl Candidate {
    /// For the lease of the controller's `namespace`.
    pub fn new(client: &Client, namespace: &str, holder: String) -> Candidate {
        Candidate { api: Api::namespaced(client.clone(), namespace), holder }
    }

    /// The name of this process.
    pub fn holder(&self) -> &str {
        &self.holder
    }

    /// Waits until this process leads. The term grows with time, whatever became of earlier leases.
    pub async fn lead(&self, tenure: &Tenure, now_ms: u64) {
        let mut watched: Option<Watched> = None;
        let mut said = String::new();
        loop {
            let asked = Instant::now();
            match self.try_take(&mut watched).await {
                Ok(None) => {
                    tenure.begin(now_ms);
                    tenure.renewed(asked);
                    tracing::info!(term = tenure.term(), holder = %self.holder, "this process leads");
                    return;
                }
                Ok(Some(holder)) => {
                    if said != holder {
                        tracing::info!("waiting: {holder} leads");
                        said = holder;
                    }
                }
                Err(error) => {
                    let text = format!("cannot take the lease: {error}");
                    if said != text {
                        tracing::warn!("{text}");
                        said = text;
                    }
                }
            }
            tokio::time::sleep(WAIT).await;
        }
    }

    /// Renews for ever; ends the tenure when somebody else holds the lease.
    pub async fn keep(&self, tenure: &Tenure) {
        let mut failing = false;
        loop {
            tokio::time::sleep(if failing { RETRY } else { RENEW }).await;
            let asked = Instant::now();
            match self.renew().await {
                Ok(true) => {
                    if failing {
                        tracing::info!("the lease is renewed again");
                    }
                    failing = false;
                    tenure.renewed(asked);
                }
                Ok(false) => {
                    tenure.lost("another process took the lease");
                    return;
                }
                Err(error) => {
                    if !failing {
                        tracing::warn!(
                            "the lease is not renewed ({error}); judging and caps go on, writes wait"
                        );
                    }
                    failing = true;
                }
            }
        }
    }

    /// Lets the next one lead at once.
    pub async fn give_back(&self) {
        let Ok(mut lease) = call(self.api.get(names::LEASE)).await else { return };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(self.holder.as_str()) {
            return;
        }
        spec.holder_identity = None;
        let _ = call(self.api.replace(names::LEASE, &PostParams::default(), &lease)).await;
    }

    /// `None`: it is ours now; else who has it.
    async fn try_take(&self, watched: &mut Option<Watched>) -> Result<Option<String>, CallError> {
        let mut lease = match call(self.api.get(names::LEASE)).await {
            Ok(lease) => lease,
            Err(error) if error.is_missing() => {
                let lease = Lease {
                    metadata: ObjectMeta { name: Some(names::LEASE.to_owned()), ..ObjectMeta::default() },
                    spec: Some(self.spec(0)),
                };
                call(self.api.create(&PostParams::default(), &lease)).await?;
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.filter(|holder| !holder.is_empty() && *holder != self.holder);
        if let Some(holder) = holder {
            // Clocks of other machines are not compared: what counts is how long nothing changed before our eyes.
            let version = lease.metadata.resource_version.clone();
            let since = match watched {
                Some(known) if known.version == version => known.since,
                _ => {
                    let since = Instant::now();
                    *watched = Some(Watched { version, since });
                    since
                }
            };
            let lasts = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
            if since.elapsed() < lasts.map_or(LASTS, Duration::from_secs) {
                return Ok(Some(holder));
            }
        }
        lease.spec = Some(self.spec(spec.lease_transitions.unwrap_or(0).saturating_add(1)));
        call(self.api.replace(names::LEASE, &PostParams::default(), &lease)).await?;
        Ok(None)
    }

    async fn renew(&self) -> Result<bool, CallError> {
        let mut lease = match call(self.api.get(names::LEASE)).await {
            // Somebody deleted it: it is made again.
            Err(error) if error.is_missing() => {
                let lease = Lease {
                    metadata: ObjectMeta { name: Some(names::LEASE.to_owned()), ..ObjectMeta::default() },
                    spec: Some(self.spec(0)),
                };
                call(self.api.create(&PostParams::default(), &lease)).await?;
                return Ok(true);
            }
            other => other?,
        };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(self.holder.as_str()) {
            return Ok(false);
        }
        spec.renew_time = Some(MicroTime(Timestamp::now()));
        call(self.api.replace(names::LEASE, &PostParams::default(), &lease)).await?;
        Ok(true)
    }

    fn spec(&self, transitions: i32) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(self.holder.clone()),
            lease_duration_seconds: Some(i32::try_from(LASTS.as_secs()).unwrap_or(15)),
            acquire_time: Some(MicroTime(Timestamp::now())),
            renew_time: Some(MicroTime(Timestamp::now())),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }
}
