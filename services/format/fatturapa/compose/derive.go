package compose

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

// ReadRequest reads a request from JSON. A field that does not exist is an error:
// a misspelt name must not vanish from an invoice.
func ReadRequest(raw []byte) (Request, error) {
	var r Request
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return Request{}, fmt.Errorf("reading the request as JSON: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Request{}, errors.New("reading the request as JSON: something follows the request; give one request a file")
	}
	return r, nil
}

// SelfBilling starts a document that the buyer of goods or services writes
// (TD16 to TD20, TD22, TD23, TD28, TD29), or one to oneself (TD21, TD26, TD27):
// it puts own company and supplier into their places and links the document of
// the supplier, if there is one. Date, number, lines and progressive are left to
// the caller.
//
// spec: AllA-1.9 §3.2 and App.2, TipoDocumento
func SelfBilling(docType string, own, supplier Party, received *Reference) (Request, error) {
	r := Request{Document: Document{Type: docType}, Seller: own, Buyer: own}
	r.Buyer.Kind = Business
	switch {
	case in(selfBilling, docType):
		r.Seller = supplier
	case docType == "TD21" || docType == "TD27":
	case docType == "TD26":
		// a passage between two activities, or the sale of an asset to a third party
		if supplier != (Party{}) {
			r.Buyer = supplier
		}
	default:
		return Request{}, fmt.Errorf("%q is no type of a document for oneself: use TD16 to TD23 or TD26 to TD29", docType)
	}
	if received != nil {
		r.LinkedInvoices = []Reference{*received}
	}
	return r, nil
}

// CreditNote starts the credit note (TD04, TD08) for a whole document: the same
// parties and lines, with the sign they have, since the type says which way they
// go. Payments and attachments are left out; the caller may drop lines.
func CreditNote(original Request, number, date string) Request {
	return variation(original, "TD04", "TD08", number, date)
}

// DebitNote starts the debit note (TD05, TD09) for a document. It has no lines
// yet: a debit note holds only what is added.
func DebitNote(original Request, number, date string) Request {
	r := variation(original, "TD05", "TD09", number, date)
	r.Lines, r.Funds, r.Withholdings, r.StampDuty = nil, nil, nil, nil
	return r
}

// variation copies what a note has in common with the document it varies.
func variation(original Request, ordinary, simplified, number, date string) Request {
	r := original
	r.Lines = slices.Clone(original.Lines)
	r.Payments, r.Attachments, r.Deliveries, r.Transport, r.MainInvoice, r.Vehicle = nil, nil, nil, nil, nil, nil
	r.Document.Number, r.Document.Date, r.Document.Causes = number, date, nil
	if original.Format == SimplifiedFormat {
		r.Document.Type = simplified
		r.Correction = &Correction{Number: original.Document.Number, Date: original.Document.Date, Elements: "Variazione della fattura n. " + original.Document.Number}
		return r
	}
	r.Document.Type = ordinary
	r.LinkedInvoices = []Reference{{ID: original.Document.Number, Date: original.Document.Date}}
	return r
}
