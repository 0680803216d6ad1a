package invoice

import (
	"slices"
	"strconv"

	"ceralacca.dev/services/invoice/internal/db"
)

// heldNumber is what one document of a file takes for itself: SdI refuses a second one.
//
// spec: AllA-1.9 controls 00404 and 00409: issuer, year and number; credit notes are counted apart;
// for documents that the buyer issues the issuer is the buyer; with Art73 the whole date counts.
type heldNumber struct {
	issuer string
	year   int16
	series string
	number string
}

// Series of numbers that may repeat each other.
const (
	seriesInvoice = "I"
	seriesCredit  = "C"
	seriesSelf    = "S"
)

// selfIssued are the documents that the buyer issues. spec: AllA-1.9 control 00404
var selfIssued = []string{"TD16", "TD17", "TD18", "TD19", "TD20", "TD22", "TD23", "TD28", "TD29"}

func isSelfIssued(documentType string) bool { return slices.Contains(selfIssued, documentType) }

// numbersOf lists the numbers that an invoice holds, one for each of its documents.
func numbersOf(row *db.Invoice) ([]heldNumber, error) {
	bodies, err := bodiesOf(row)
	if err != nil {
		return nil, err
	}
	return heldNumbers(bodies, fiscalID(row.SellerVatNumber, row.SellerTaxCode), fiscalID(row.BuyerVatNumber, row.BuyerTaxCode)), nil
}

func heldNumbers(bodies []body, seller, buyer string) []heldNumber {
	held := make([]heldNumber, len(bodies))
	for i, b := range bodies {
		h := heldNumber{issuer: seller, series: seriesInvoice, year: yearOf(b.Date), number: b.Number}
		switch {
		case isSelfIssued(b.Type):
			h.issuer, h.series = buyer, seriesSelf
		case b.Type == "TD04" || b.Type == "TD08":
			h.series = seriesCredit
		}
		if b.Art73 {
			h.series += b.Date // the same number may come back on another day
		}
		held[i] = h
	}
	return held
}

// fiscalID is the VAT number, or the tax code of whom has none.
func fiscalID(vat, tax string) string {
	if vat != "" {
		return vat
	}
	return tax
}

// yearOf reads the year of an ISO date; 0 when there is none.
func yearOf(date string) int16 {
	if len(date) < 4 {
		return 0
	}
	year, err := strconv.ParseInt(date[:4], 10, 16)
	if err != nil {
		return 0
	}
	return int16(year)
}
