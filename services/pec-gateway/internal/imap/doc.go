// Package imap reads mailboxes over IMAP: log in, list folders, open them without marking anything as
// read, ask for numbers and stream messages. spec: RFC3501, RFC2177 (IDLE), RFC6154 (SPECIAL-USE),
// RFC2087 (QUOTA)
//
// It refuses everything that would change the mailbox, everything that makes servers parse messages for
// us (BODYSTRUCTURE, ENVELOPE: one odd message would stop the whole answer), and connections without
// TLS. Bytes of messages are passed on as they come and never kept.
package imap
