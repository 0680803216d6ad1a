// Package tsa is the sandbox's time-stamp authority: RFC 3161 over HTTP with a clock that tests
// can turn and faults that they can order.
//
// It owns the HTTP side, the serial numbers and the faults; the protocol is format/tsp, the
// certificate comes from sandbox/ca. It refuses to be mistaken for a real authority: its
// certificate says "SANDBOX - NOT VALID" and its policy is in the arc for examples.
package tsa
