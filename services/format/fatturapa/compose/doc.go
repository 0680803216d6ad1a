// Package compose turns plain business data into the XML of one electronic
// invoice: ordinary (FPA12, FPR12) or simplified (FSM10).
//
// It owns the totals of an invoice (lines, funds, VAT summaries, withholding,
// payable amount) in exact decimals with one rounding rule, the conventions for
// buyers that the format has no field for (foreign, consumer, public body), the
// order and absence of elements, and the policy for characters that the format
// cannot hold: they are transliterated, and every change is reported.
//
// It refuses to guess: what is missing or contradictory is an [Error] that names
// the place in the request and how to mend it. It numbers no documents, names no
// files, signs nothing, asks no register and reads no clock. Lots of several
// documents are not its job: one request is one document.
//
// What [Compose] returns has passed fatturapa.Check without an error.
//
// The names of the request are English; statutory codes (TD01, N4, RT01) and the
// names of XML elements stay as the law writes them.
package compose
