package fatturapa_test

import (
	"fmt"

	"ceralacca.dev/services/format/fatturapa"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
)

func ExampleCheck() {
	raw := fatturapatest.Invoice(fatturapatest.Options{Formato: "FPA12", CodiceDestinatario: "0000000", Numero: "UNO"})
	f, err := fatturapa.Parse(raw)
	if err != nil {
		fmt.Println(err)
		return
	}
	r := fatturapa.Check(f, fatturapa.Options{})
	fmt.Println(r.Valid(), r.RulePack, r.SchemaVersion)
	for _, x := range r.Findings {
		fmt.Println(x.Code, x.Severity, x.Line, x.XPath, x.Actual)
	}
	// Output:
	// false 1.9.1 1.2.3
	// 00427 error 11 /FatturaElettronica/FatturaElettronicaHeader/DatiTrasmissione/CodiceDestinatario 0000000
	// 00425 error 59 /FatturaElettronica/FatturaElettronicaBody/DatiGenerali/DatiGeneraliDocumento/Numero UNO
}
