// Package pec simulates two providers of certified e-mail (gestori) as real servers: submission
// over SMTP with TLS, reception between providers, mailboxes over IMAP and POP3.
//
// It owns the behaviour of the three points of RFC 6109: the access point checks, accepts or
// refuses and wraps; the point of reception verifies signatures, takes in charge, finds viruses,
// wraps what is not certified; the point of delivery fills mailboxes and issues receipts. Notices
// of missing delivery run on the sandbox's virtual clock. What a message looks like and what its
// signature is worth is the business of format/pec.
//
// It refuses to reach anything outside: mail to foreign domains goes to the sandbox's mail sink.
// Its certificates say SANDBOX - NOT VALID, its memory is lost at exit. Mailboxes that do not
// exist but whose name asks for an outcome are listed in magic.go and in the sandbox's README.
package pec
