// Package pades signs PDF files as PAdES B-B and B-T and says what is true of the signatures in
// a PDF.
//
// It owns a guarded reader of PDF structure (cross-reference tables and streams, object streams,
// hybrid files, increments, bounded recovery of a broken table), the increment that carries a
// signature with or without a visible box, and the judgement of what came after a signature.
// The CMS inside is cades and cms, time-stamps are tsp.
//
// Sign does all at once. With a key elsewhere: Prepare lays out the file, Digest goes to the key,
// Check judges the value that comes back and Write makes the file. AddTimestamp brings a stamp
// later. Verify gives a report on every signature of a file.
//
// It refuses encrypted files, dynamic XFA forms, fields with seed values, LT and LTA writing
// (both are recognised when reading), and anything that is drawn: pages are never interpreted.
// Keys, trust anchors, time of judgement and authorities are the caller's. Reading never
// recurses on data without a bound, and the work on a hostile file is limited.
package pades
