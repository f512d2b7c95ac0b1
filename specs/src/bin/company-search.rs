//! The search service of a shop: a stand-in for an image that a company would have.
//!
//! `PORT` (default 9200) is the port. Routes: `GET /health`, and `GET /search/WORD` for the
//! articles whose name contains the word.

use faultbox_specs::http::{self, Request, Response};
use faultbox_specs::startup;
use serde::Serialize;
use std::process::ExitCode;

const ARTICLES: [&str; 4] = ["TSHIRT", "TSHIRT-LONG", "MUG", "WIDGET"];

fn main() -> ExitCode {
    startup::run("company-search", 9200, |listener| http::serve(listener, answer))
}

#[derive(Serialize)]
struct Found<'a> {
    query: &'a str,
    articles: Vec<&'static str>,
}

fn answer(request: &Request) -> Response {
    let path = request.path.as_str();
    let query = match path {
        "/health" | "/search" => None,
        _ => match path.strip_prefix("/search/") {
            Some(query) => Some(query),
            None => return Response::text(404, "not found"),
        },
    };
    if request.method != "GET" {
        return Response::method_not_allowed("GET");
    }
    match query {
        None if path == "/health" => Response::text(200, "ok"),
        query => Response::json(200, &search(query.unwrap_or_default())),
    }
}

fn search(query: &str) -> Found<'_> {
    let wanted = query.to_ascii_uppercase();
    let articles = ARTICLES.into_iter().filter(|article| article.contains(&wanted)).collect();
    Found { query, articles }
}
