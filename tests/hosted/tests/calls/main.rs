//! System calls, made through the dispatcher as a guest makes them. A file for each family.

mod futex;
mod guest;
mod names;
mod pipe;
mod poll;
