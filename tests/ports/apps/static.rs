//! A server without a dynamic linker, which no library can be loaded into: `static PORT`.

use std::io::{Read, Write};

fn main() -> std::io::Result<()> {
    let port: u16 = std::env::args().nth(1).and_then(|text| text.parse().ok()).expect("a port");
    let listener = std::net::TcpListener::bind(("127.0.0.1", port))?;
    println!("listens");
    for stream in listener.incoming() {
        let mut stream = stream?;
        let _ = stream.read(&mut [0; 4096]);
        let me = format!("pid {}\n", std::process::id());
        let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{me}", me.len());
    }
    Ok(())
}
