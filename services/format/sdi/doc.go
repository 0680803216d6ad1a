// Package sdi speaks the wire of the Sistema di Interscambio, the Italian exchange for
// electronic invoices: file names, the SOAP 1.1 / MTOM services of the SDICoop channel
// (client and server side of SdIRiceviFile and TrasmissioneFatture), and the messages that
// the exchange sends about a file (receipts and notifications), read leniently and written
// strictly.
//
// It owns bytes and their meaning. It refuses to decide: it keeps no state, knows no legal
// deadline, opens no database, chooses no retry. It never verifies an XAdES signature
// (package xades does) and never looks inside an invoice (package fatturapa does).
//
// Reading is lenient because official examples break their own schema; every tolerance that
// was used is listed in Message.Warnings, and the bytes received are kept untouched in
// Message.Raw. Writing is strict: what a writer emits validates against the official schema.
//
// Statutory words stay Italian (RicevutaConsegna, NotificaScarto); each has a line of
// English beside it.
package sdi
