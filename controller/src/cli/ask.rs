//! Asking the running controller, and telling what to do when nobody answers.

use super::{At, Failure};
use crate::control::{Client, ClientError};
use crate::text::visible;
use crate::view::{ServiceView, View};

/// The view, now.
pub(super) async fn view(at: &At) -> Result<View, Failure> {
    Client::new(&at.state).status().await.map_err(failure)
}

/// The service that was named, or the only one.
pub(super) fn pick<'v>(view: &'v View, name: Option<&str>) -> Result<&'v ServiceView, Failure> {
    let names = || view.services.iter().map(|service| service.name.as_str()).collect::<Vec<_>>().join(", ");
    match (name, view.services.as_slice()) {
        (None, [only]) => Ok(only),
        (None, []) => Err(Failure::usage(format!("{} holds no service; add one", visible(&view.file)))),
        (None, _) => Err(Failure::usage(format!(
            "{} holds several services; name one of {}",
            visible(&view.file),
            names()
        ))),
        (Some(name), services) => services.iter().find(|service| service.name == name).ok_or_else(|| {
            Failure::usage(format!("there is no service `{}`; name one of {}", visible(name), names()))
        }),
    }
}

/// What a person does about it. The cause is told once.
pub(super) fn failure(error: ClientError) -> Failure {
    let told = visible(&error.to_string()).into_owned();
    Failure::error(match &error {
        ClientError::NotRunning { .. } => format!(
            "{told}; start one with `hueshift up FILE.yaml`, or name its state directory with --state DIR or HUESHIFT_STATE"
        ),
        ClientError::Unreachable { source, .. } => {
            format!("{told}: {source}; run this as the user who runs `hueshift up`")
        }
        ClientError::Silent { .. } => {
            format!("{told}; see its log, and restart it if it hangs: traffic goes on meanwhile")
        }
        ClientError::Garbled { .. } | ClientError::Refused(_) => told,
    })
}
