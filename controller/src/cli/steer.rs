//! `release`, `promote`, `pause`, `resume`, `abort`: one command to the controller, its answer as one line.

use super::ask::Asked;
use super::{At, Done, Which, say, wait};
use crate::control::{Accepted, Command, Request};
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
    let asked = Asked::of(&args.at, args.service.as_deref()).await?;
    let accepted = send(&asked, args.service, Command::Release { force: args.force }).await?;
    let done = say(line(&accepted))?;
    if args.wait {
        return wait::until_ended(&asked, &accepted.service, accepted.release, args.limit).await;
    }
    Ok(done)
}

pub(super) async fn steer(which: Which, command: Command) -> Done {
    let asked = Asked::of(&which.at, which.service.as_deref()).await?;
    let accepted = send(&asked, which.service, command).await?;
    say(line(&accepted))
}

async fn send(asked: &Asked, service: Option<String>, command: Command) -> Result<Accepted, super::Failure> {
    asked.command(&Request { service, command }).await.map_err(|unanswered| unanswered.failure())
}

fn line(accepted: &Accepted) -> String {
    format!("{}: {}\n", visible(&accepted.service), visible(&accepted.text))
}
