//! Whole calls on a virtual clock: fake leg, recogniser, model and synthesiser around the real machine.

mod calls;
mod driver;
mod failures;
