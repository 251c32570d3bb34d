//! The `main` of a test binary whose tests share one cluster, one after the other.
//!
//! A cluster takes seconds to start and a test mostly less, so a binary has one; each test works in Kubernetes
//! namespaces of its own. What a test binary of Rust's own harness prints and understands, these do too.

use super::{Cluster, Parts, netns};
use libtest_mimic::{Arguments, Failed, Trial};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use tokio::runtime::Runtime;

type Run = Box<dyn FnOnce(Arc<Cluster>) -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// One test.
pub struct Test {
    name: &'static str,
    run: Run,
}

/// Lists tests by the names of their functions: `tests![this_holds, that_holds]`.
#[macro_export]
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        vec![$($crate::cluster::suite::Test::new(stringify!($name), $name)),*]
    };
}

// === impl Test ===

impl Test {
    /// From a function of the cluster.
    pub fn new<F: Future<Output = ()> + 'static>(
        name: &'static str,
        test: impl FnOnce(Arc<Cluster>) -> F + Send + 'static,
    ) -> Self {
        Test { name, run: Box::new(move |cluster| Box::pin(test(cluster))) }
    }
}

/// The cluster of this process; an `Err` if it did not start.
type Shared = Mutex<Option<Result<Arc<Cluster>, String>>>;

/// Runs the tests that the command line names against a cluster of these parts, which starts with the first one.
pub fn main(parts: Parts, tests: Vec<Test>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    if !arguments.list {
        netns::enter();
    }
    arguments.test_threads = Some(1);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let runtime = Arc::new(runtime);
    let shared: Arc<Shared> = Arc::default();
    let trials = tests.into_iter().map(|test| {
        let (runtime, shared, parts) = (Arc::clone(&runtime), Arc::clone(&shared), parts.clone());
        Trial::test(test.name, move || one(&runtime, &shared, &parts, test.run))
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    let mut cluster = shared.lock().unwrap().take().and_then(Result::ok);
    if conclusion.has_failed()
        && let Some(cluster) = &mut cluster
    {
        cluster.keep();
    }
    drop(cluster);
    conclusion.exit_code()
}

fn one(runtime: &Runtime, shared: &Shared, parts: &Parts, run: Run) -> Result<(), Failed> {
    let cluster = {
        let mut shared = shared.lock().unwrap();
        shared
            .get_or_insert_with(|| {
                caught(|| Arc::new(runtime.block_on(Cluster::start(parts.clone()))))
                    .map_err(|why| format!("the cluster did not start: {why}"))
            })
            .clone()?
    };
    caught(|| runtime.block_on(run(cluster))).map_err(Failed::from)
}

/// The panic's message as an error.
fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panicked").to_owned()
    })
}
