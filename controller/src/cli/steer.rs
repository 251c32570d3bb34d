//! `release`, `promote`, `pause`, `resume`, `abort`: one command to the controller, its answer as one line.

use super::{At, Done, Which, ask, say, wait};
use crate::control::{Accepted, Client, Command, Request};
use crate::text::visible;
use clap::Args;

#[derive(Debug, Args)]
pub(super) struct ReleaseArgs {
    /// The service; may be left out when there is only one.
    service: Option<String>,
    /// Also if this revision was rolled back before, or is what the live color runs.
    #[arg(long)]
    force: bool,
    /// Wait until it has ended; the exit code then tells how: 0 promoted, 3 rolled back, 4 held for a person,
    /// 5 time-out, 6 superseded.
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    limit: wait::Limit,
    #[command(flatten)]
    at: At,
}

pub(super) async fn release(args: ReleaseArgs) -> Done {
    let accepted = send(&args.at, args.service, Command::Release { force: args.force }).await?;
    let done = say(line(&accepted))?;
    if args.wait {
        return wait::until_ended(&args.at, &accepted.service, accepted.release, args.limit).await;
    }
    Ok(done)
}

pub(super) async fn steer(which: Which, command: Command) -> Done {
    let accepted = send(&which.at, which.service, command).await?;
    say(line(&accepted))
}

async fn send(at: &At, service: Option<String>, command: Command) -> Result<Accepted, super::Failure> {
    Client::new(&at.state).command(&Request { service, command }).await.map_err(ask::failure)
}

fn line(accepted: &Accepted) -> String {
    format!("{}: {}\n", visible(&accepted.service), visible(&accepted.text))
}
