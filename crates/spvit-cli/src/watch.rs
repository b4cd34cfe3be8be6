//! `spvit watch`: the page of a run that goes on, for the browsers of this machine.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use oxhttp::{
    Server,
    model::{
        Body, HeaderMap, Method, Request, Response, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE, HOST, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS},
    },
};
use spvit_report::{Liveness, Record, page};

use crate::{
    args::WatchArguments,
    failure::{Failure, no_thread},
    interrupt,
    output::say,
};

/// What a browser opens at a time, and some more.
const CONNECTIONS: usize = 32;
/// After this long, whoever says nothing is sent away.
const PATIENCE: Duration = Duration::from_secs(20);

/// Serves the page until Ctrl-C.
pub fn watch(arguments: &WatchArguments) -> Result<(), Failure> {
    let (root, port) = (arguments.run.clone(), arguments.port);
    // A folder that holds no run yet is a wrong name more often than not.
    Record::read(&root)?;
    interrupt::listen(false)?;
    // Nobody on the network is to see what is trained here.
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let served = root.clone();
    let server = Server::new(move |request| answer(request, &served))
        .bind(address)
        .with_global_timeout(PATIENCE)
        .with_max_concurrent_connections(CONNECTIONS);
    let listening = server.spawn().map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => Failure::usage(format!(
            "--port {port}: another program has this port; choose another, such as --port {}",
            port.checked_add(1).unwrap_or(port - 1)
        )),
        std::io::ErrorKind::PermissionDenied => Failure::usage(format!(
            "--port {port}: the system keeps this port for itself; choose one above 1023"
        )),
        std::io::ErrorKind::WouldBlock => Failure::run(no_thread(error)),
        _ => Failure::run(format!("listening on {address}: {error}")),
    })?;
    say(format!("{} is shown at http://{address}/ until Ctrl-C", root.display()))?;
    listening.join().map_err(|error| Failure::run(format!("serving on {address}: {error}")))
}

fn answer(request: &Request<Body>, root: &Path) -> Response<Body> {
    if !is_local(request.headers()) {
        let text = "This page is for http://localhost and http://127.0.0.1 alone.";
        return plain(StatusCode::FORBIDDEN, text);
    }
    if request.method() != Method::GET {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "This page can only be looked at.");
    }
    if request.uri().path() != "/" {
        return plain(StatusCode::NOT_FOUND, "The page is at /.");
    }
    match Record::read(root).and_then(|record| page(&record, Liveness::Live)) {
        Ok(page) => respond(StatusCode::OK, "text/html; charset=utf-8", page),
        Err(error) => plain(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}

/// Whether the request names this machine as its host. A page from elsewhere may have its own name
/// lead here (DNS rebinding), and would read what is shown.
fn is_local(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter().peekable();
    let local = |host: &oxhttp::model::HeaderValue| {
        let host = host.to_str().unwrap_or_default();
        let (name, port) = host.split_once(':').unwrap_or((host, "0"));
        let local = name.eq_ignore_ascii_case("localhost") || name == "127.0.0.1";
        local && port.parse::<u16>().is_ok()
    };
    hosts.peek().is_some() && hosts.all(local)
}

fn plain(status: StatusCode, text: &str) -> Response<Body> {
    respond(status, "text/plain; charset=utf-8", format!("{text}\n"))
}

fn respond(status: StatusCode, kind: &'static str, text: String) -> Response<Body> {
    let response = Response::builder()
        .status(status)
        .header(CONTENT_TYPE, kind)
        .header(CACHE_CONTROL, "no-store")
        .header(X_CONTENT_TYPE_OPTIONS, "nosniff")
        .header(REFERRER_POLICY, "no-referrer")
        .header("content-security-policy", "frame-ancestors 'none'")
        .header("cross-origin-resource-policy", "same-origin")
        .body(Body::from(text));
    // All of its parts are ours.
    response.unwrap_or_else(|_| Response::new(Body::empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_the_host() {
        let local = |hosts: &[&str]| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(HOST, host.parse().unwrap());
            }
            is_local(&headers)
        };
        for host in ["localhost", "127.0.0.1:7878", "LOCALHOST:1"] {
            assert!(local(&[host]), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil", "", "localhost:x"]
        {
            assert!(!local(&[host]), "{host}");
        }
        assert!(!local(&[]) && !local(&["localhost", "evil.example"]));
    }
}
