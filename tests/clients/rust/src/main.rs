//! The Rust SDK `rmcp` as a client with the tests' common command line, and as a server to put behind the gateway.
//!
//!     portcullis-test-rmcp URL [--token T] [--era session|stateless|auto] [--timeout S] list | call | progress | steps ...
//!     portcullis-test-rmcp serve PORT
//!
//! Exit codes of the client: 0 done, 1 refused or failed by the server, 2 wrong use, 3 no connection.

mod client;
mod options;
mod server;
mod steps;

use std::process::ExitCode;

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [command, port] = arguments.as_slice()
        && command == "serve"
    {
        let Ok(port) = port.parse() else {
            eprintln!("{port} is no port");
            return ExitCode::from(2);
        };
        return match server::serve(port).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error:#}");
                ExitCode::FAILURE
            }
        };
    }
    match options::parse(&arguments) {
        Ok(options) => ExitCode::from(client::run(&options).await),
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(2)
        }
    }
}
