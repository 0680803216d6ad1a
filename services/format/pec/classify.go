package pec

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Reason is a row of the table that tells what a receipt about an error means: providers use "altro" for nearly everything and
// say more in errore-esteso. What is empty fits everything.
type Reason struct {
	Tipo         Tipo   `json:"type"`          // of which receipts
	Errore       Errore `json:"error"`         // no-dest, no-dominio, virus, altro, nessuno
	Code         string `json:"code"`          // enhanced status code or its first numbers: 5.4.1, 5.4, 4. spec: RFC3463 §2
	Text         string `json:"text"`          // part of errore-esteso, letters of any case
	Cause        Cause  `json:"cause"`         // what it means
	SecondNotice bool   `json:"second_notice"` // the notice is the second one, whenever it came
}

// Reasons is a table. The first row that fits decides.
type Reasons []Reason

// StandardReasons is what the codes mean where no provider means something else.
var StandardReasons = Reasons{
	{Errore: VirusTrovato, Cause: CauseVirus},
	{Code: "5.5.1", Text: "virus", Cause: CauseVirus}, // as Aruba writes
	{Errore: NoDest, Cause: CauseNoMailbox},
	{Code: "5.1.1", Cause: CauseNoMailbox},
	{Code: "5.1.6", Cause: CauseNoMailbox},
	{Code: "5.2.1", Cause: CauseNoMailbox},
	{Errore: NoDominio, Cause: CauseNoDomain},
	{Code: "5.1.2", Cause: CauseNoDomain},
	{Code: "5.4.4", Cause: CauseNoDomain},
	{Code: "5.2.2", Cause: CauseFull},
	{Code: "4.2.2", Cause: CauseFull},
	{Code: "5.4.1", Cause: CauseUnreachable},
	{Code: "5.4.7", Cause: CauseUnreachable},
	{Code: "4.4", Cause: CauseUnreachable},
	{Code: "5.3.4", Cause: CauseTooLarge},
	{Code: "5.2.3", Cause: CauseTooLarge},
	{Code: "4", Cause: CauseTemporary},
	{Errore: Nessuno, Cause: CauseNone},
	{Cause: CauseOther},
}

// causes are all that a table may name.
var causes = []Cause{CauseNone, CauseVirus, CauseNoMailbox, CauseNoDomain, CauseFull, CauseUnreachable, CauseTooLarge, CauseTemporary, CauseOther}

var codeForm = regexp.MustCompile(`^[245](\.[0-9]{1,3}){0,2}$`)

// Check says why a table is none.
func (l Reasons) Check() error {
	for i, r := range l {
		switch {
		case r.Tipo != "" && !slices.Contains([]Tipo{NonAccettazione, ErroreConsegna, PreavvisoErrore}, r.Tipo):
			return fmt.Errorf("reason %d: type %q tells of no error: use %s, %s or %s", i+1, r.Tipo, NonAccettazione, ErroreConsegna, PreavvisoErrore)
		case r.Errore != "" && !slices.Contains([]Errore{Nessuno, NoDest, NoDominio, VirusTrovato, AltroErrore}, r.Errore):
			return fmt.Errorf("reason %d: %q is no error of daticert.xml", i+1, r.Errore)
		case r.Code != "" && !codeForm.MatchString(r.Code):
			return fmt.Errorf("reason %d: code %q is no enhanced status code, for example 5.4.1 or 5.4", i+1, r.Code)
		case !slices.Contains(causes, r.Cause):
			return fmt.Errorf("reason %d: cause %q is none of %q", i+1, r.Cause, causes)
		case r.SecondNotice && r.Tipo != PreavvisoErrore:
			return fmt.Errorf("reason %d: second_notice is for type %s", i+1, PreavvisoErrore)
		case r == Reason{Cause: r.Cause}:
			return fmt.Errorf("reason %d fits everything: say of which receipts it is", i+1)
		}
	}
	return nil
}

// fits says whether a row is about a receipt.
func (r *Reason) fits(d *Daticert, code string) bool {
	return (r.Tipo == "" || string(r.Tipo) == d.Tipo) && (r.Errore == "" || r.Errore == d.Errore) &&
		(r.Code == "" || code == r.Code || strings.HasPrefix(code, r.Code+".")) &&
		(r.Text == "" || strings.Contains(strings.ToLower(d.ErroreEsteso), strings.ToLower(r.Text)))
}

// of gives what a receipt means by the table, and by the standard one where this has no row for it.
func (l Reasons) of(d *Daticert) Reason {
	code := enhancedCode(d.ErroreEsteso)
	for _, table := range []Reasons{l, StandardReasons} {
		for i := range table {
			if table[i].fits(d, code) {
				return table[i]
			}
		}
	}
	return Reason{Cause: CauseOther}
}

// Cause tells causes of a failed delivery apart by errore and the enhanced status code that
// usually begins errore-esteso.
func (d *Daticert) Cause() Cause { return Reasons(nil).of(d).Cause }
