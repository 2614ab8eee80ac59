//! Sockets. There is one family: [`unix`].

pub mod unix;
