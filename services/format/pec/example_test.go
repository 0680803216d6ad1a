package pec_test

import (
	"fmt"
	"strings"
	"time"

	"ceralacca.dev/services/format/pec"
)

// A message that only looks like a receipt: its header claims one, nothing proves it.
func Example() {
	raw := "X-Ricevuta: avvenuta-consegna\r\nFrom: posta-certificata@pec.example.test\r\nSubject: CONSEGNA: contratto\r\n\r\nconsegnato\r\n"
	r, err := pec.Read(strings.NewReader(raw), int64(len(raw)), pec.Limits{})
	if err != nil {
		fmt.Println(err)
		return
	}
	report, err := r.Verify(pec.Verification{Trust: &pec.TrustList{}, At: time.Date(2026, 9, 14, 8, 30, 0, 0, time.UTC)})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("claims:", r.Claim.Tipo)
	fmt.Println("signature:", report.Status)
	fmt.Println("proven:", r.Proven(report))
	// Output:
	// claims: avvenuta-consegna
	// signature: unsigned
	// proven: false
}
