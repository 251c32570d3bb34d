//! One sample model server as a program: for people who try Hueshift by hand, and for tests that kill it.

use clap::Parser;
use hueshift_core::color::Color;
use hueshift_tests::model::{Faults, Kind, Model};
use std::net::SocketAddr;
use std::path::PathBuf;

/// A sample model server with faults that can be set: POST JSON to /_model/faults.
#[derive(Debug, Parser)]
struct Arguments {
    /// Address and port to listen on.
    #[arg(long, env = "HUESHIFT_LISTEN")]
    listen: SocketAddr,
    /// What to serve: pricing or chat.
    #[arg(long, default_value = "pricing", value_parser = kind)]
    kind: Kind,
    /// The color to name in answers.
    #[arg(long, env = "HUESHIFT_COLOR", default_value = "blue", value_parser = color)]
    color: Color,
    /// The revision to name in answers.
    #[arg(long, env = "HUESHIFT_REVISION", default_value = "unknown")]
    revision: String,
    /// Faults from the start, as JSON.
    #[arg(long, env = "HUESHIFT_FAULTS", value_parser = faults)]
    faults: Option<Faults>,
    /// A file to which every request is appended, as JSON.
    #[arg(long, env = "HUESHIFT_EVENT_LOG")]
    event_log: Option<PathBuf>,
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    let model = Model::start(arguments.kind, arguments.color, &arguments.revision, arguments.listen, 1).await;
    if let Some(faults) = arguments.faults {
        model.set(faults);
    }
    if let Some(path) = &arguments.event_log {
        model.keep_log(path);
    }
    println!("the {} model {} listens on {}", arguments.color, arguments.revision, model.address());
    std::future::pending::<()>().await;
}

fn kind(name: &str) -> Result<Kind, String> {
    match name {
        "pricing" => Ok(Kind::Pricing),
        "chat" => Ok(Kind::Chat),
        _ => Err("pricing or chat".to_owned()),
    }
}

fn faults(json: &str) -> Result<Faults, String> {
    serde_json::from_str(json).map_err(|error| error.to_string())
}

fn color(name: &str) -> Result<Color, String> {
    Color::BOTH.into_iter().find(|color| color.as_str() == name).ok_or_else(|| "blue or green".to_owned())
}
