//! System calls, made through the dispatcher as a guest makes them. A file for each family.

mod aio;
mod event;
mod foreign;
mod futex;
mod guest;
mod hostile;
mod ids;
mod limits;
mod locks;
mod names;
mod notify;
mod old;
mod open;
mod pipe;
mod poll;
mod rseq;
mod shm;
mod socket;
mod splice;
mod terminal;
mod timer;
mod transfer;
mod xattr;
