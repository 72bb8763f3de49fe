//! Serves the cash machine: `atm [ADDRESS]`, by default 127.0.0.1:8080; `atm --openapi` prints the document.

use std::error::Error;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let argument = std::env::args().nth(1);
    if argument.as_deref() == Some("--openapi") {
        println!("{}", atm::api::document().to_pretty_json()?);
        return Ok(());
    }
    let listener = tokio::net::TcpListener::bind(argument.as_deref().unwrap_or("127.0.0.1:8080")).await?;
    println!("listening on http://{}, Swagger UI at /docs", listener.local_addr()?);
    axum::serve(listener, atm::api::service(atm::api::demonstration())).await?;
    Ok(())
}
