package compose

import (
	"slices"
	"strconv"
	"strings"
)

// The closed lists of the format, as of schema VFPR12 1.2.3 and VFSM10 1.0.2.
// Generic N2, N3 and N6 are left out: they are refused since 2021 (00445).
//
// spec: AllA-1.9 App.2
var (
	documentTypes    = codes("TD01-TD06 TD16-TD29")
	simplifiedTypes  = codes("TD07-TD09")
	taxRegimes       = codes("RF01 RF02 RF04-RF20")
	natures          = codes("N1 N2.1 N2.2 N3.1-N3.6 N4 N5 N6.1-N6.9 N7")
	simplifiedNature = codes("N1 N2.1 N2.2 N3.1-N3.6 N4 N5")
	fundTypes        = codes("TC01-TC22")
	withholdingTypes = codes("RT01-RT06")
	// causes leaves out Z: it is for invoices before 2021.
	withholdingCauses = codes("A B C D E G H I L M N O P Q R S T U V W X Y L1 M1 M2 O1 V1 ZO")
	paymentTerms      = codes("TP01-TP03")
	paymentMethods    = codes("MP01-MP23")
	lineKinds         = codes("SC PR AB AC")
	collectabilities  = codes("D I S")

	// selfBilling are the types in which the buyer writes the document of a
	// purchase: the seller of the document is the supplier.
	selfBilling = codes("TD16-TD20 TD22 TD23 TD28 TD29")

	// members of the European Union, with EL for the VAT numbers of Greece and XI
	// for those of Northern Ireland.
	unionMembers = codes("AT BE BG CY CZ DE DK EE EL ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK XI")
)

// codes reads a list with ranges: "TD01-TD06 TD16".
func codes(list string) []string {
	var out []string
	for _, word := range strings.Fields(list) {
		first, last, isRange := strings.Cut(word, "-")
		if !isRange {
			out = append(out, word)
			continue
		}
		stem := strings.TrimRight(first, "0123456789")
		from, errFrom := strconv.Atoi(first[len(stem):])
		to, errTo := strconv.Atoi(last[len(stem):])
		if errFrom != nil || errTo != nil {
			panic("compose: code list: " + word)
		}
		width := len(first) - len(stem)
		for n := from; n <= to; n++ {
			digits := strconv.Itoa(n)
			out = append(out, stem+strings.Repeat("0", width-len(digits))+digits)
		}
	}
	return out
}

func in(list []string, code string) bool { return slices.Contains(list, code) }
