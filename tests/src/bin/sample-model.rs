//! One sample model server as a program: for people who try Hueshift by hand, and for tests that kill it.

use clap::Parser;
use hueshift_core::color::Color;
use hueshift_tests::model::{Kind, Model};
use std::net::SocketAddr;

/// A sample model server with faults that can be set: POST JSON to /_model/faults.
#[derive(Debug, Parser)]
struct Arguments {
    /// Address and port to listen on.
    #[arg(long)]
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
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    let model = Model::start(arguments.kind, arguments.color, &arguments.revision, arguments.listen, 1).await;
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

fn color(name: &str) -> Result<Color, String> {
    Color::BOTH.into_iter().find(|color| color.as_str() == name).ok_or_else(|| "blue or green".to_owned())
}
