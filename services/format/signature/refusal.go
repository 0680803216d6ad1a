package signature

import (
	"errors"
	"strings"

	"ceralacca.dev/services/format/fatturapa"
)

// Refusal gives the error of [Read], or of fatturapa.Parse, as SdI would: a finding
// with the code of the control that refuses a file which cannot be read as an
// invoice. That is 00003 for one that is too large, 00106 for one that is empty or
// whose envelope is damaged, and 00200 for all else.
//
// spec: AllA-1.9 App.1, controls 00003, 00106 and 00200
func Refusal(err error) fatturapa.Finding {
	x := fatturapa.Finding{Severity: fatturapa.SeverityError}
	var parse *fatturapa.ParseError
	if !errors.As(err, &parse) {
		x.Code = "00106"
		x.Message = fatturapa.Text{IT: "La busta di firma non si legge", EN: "The signature envelope cannot be read"}
		x.Hint = fatturapa.Text{IT: "Firmare di nuovo il file, o trasferirlo in modo binario", EN: "Sign the file again, or transfer it in binary mode"}
		x.Actual = strings.TrimPrefix(err.Error(), "signature: ")
		x.ActualIT = "busta danneggiata, tagliata o senza il contenuto"
		x.Clause = "AllA-1.9 App.1 (00106)"
		return x
	}
	what, hint := parse.Text()
	x.Code, x.Hint, x.Line, x.Actual, x.ActualIT = "00200", hint, parse.Line, what.EN, what.IT
	x.Message = fatturapa.Text{IT: "Il file non si legge come fattura", EN: "The file cannot be read as an invoice"}
	switch parse.Code {
	case fatturapa.ErrTooLarge:
		x.Code, x.Message = "00003", fatturapa.Text{IT: "Il file supera la dimensione massima ammessa", EN: "The file is larger than allowed"}
	case fatturapa.ErrEmpty:
		x.Code, x.Message = "00106", fatturapa.Text{IT: "Il file è vuoto", EN: "The file is empty"}
	}
	x.Clause = "AllA-1.9 App.1 (" + x.Code + ")"
	return x
}
