package sdigateway

import (
	"context"
	"fmt"
	"slices"
	"strings"

	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
	"ceralacca.dev/services/internal/fault"
)

// Reasons of the quarantine, and of what is remarkable about a delivery. They are permanent.
const (
	reasonUnreadable     = "FILE_UNREADABLE"
	reasonEmpty          = "FILE_WITHOUT_DOCUMENTS"
	reasonMetadata       = "METADATA_UNREADABLE"
	reasonMetadataOther  = "METADATA_MISMATCH"
	reasonConflict       = "SDI_ID_CONFLICT"
	reasonUnknown        = "RECIPIENT_UNKNOWN"
	reasonAmbiguous      = "RECIPIENT_AMBIGUOUS"
	reasonContradiction  = "RECIPIENT_CONTRADICTION"
	problemAttemptTwice  = "SDI_ATTEMPT_REPEATED"
	metadataReasonPrefix = "METADATA_"
)

// How a company was found.
const (
	byCode         = "RECIPIENT_CODE"
	byCodeAndBuyer = "RECIPIENT_CODE_AND_BUYER"
	byPEC          = "PEC_ADDRESS"
	byBuyerVAT     = "BUYER_VAT_NUMBER"
	byBuyerTax     = "BUYER_TAX_CODE"
	byClaim        = "CLAIM"
)

// reason says why a file belongs to nobody yet.
type reason struct{ code, text string }

// candidates are the companies that a file may be for, by what they were found by.
type candidates struct {
	code       string // that the companies in byCode have
	byCode     []string
	byPEC      []string
	byVAT      []string
	byTax      []string
	identified string // the buyer, as shown to people
}

// address is what a file says about its recipient.
type address struct {
	codes []string // that SdI delivered to, then the file's own; those that mean nobody are left out
	pec   string
	vat   string
	tax   string
}

// addressOf reads the address of a file. The code in the metadata comes first: SdI delivers by the address
// that the buyer has registered, whatever the file says. The buyer is CessionarioCommittente in every type of
// document: a self-billed one has the supplier as seller and the company itself, which gets it, as buyer.
// spec: AllA-1.9 §1.5.5, §3.2
func addressOf(metadataCode, fileCode, pec, vat, tax string) address {
	a := address{pec: pec, vat: vat, tax: tax}
	for _, code := range []string{metadataCode, fileCode} {
		if nobody(code) || slices.Contains(a.codes, code) || !recipientCode(code) {
			continue
		}
		a.codes = append(a.codes, code)
	}
	return a
}

// nobody lists the codes that name no recipient: delivery by PEC or reserved area, and foreign buyers.
func nobody(code string) bool { return code == "" || code == "0000000" || code == "XXXXXXX" }

func recipientCode(code string) bool {
	if len(code) != 6 && len(code) != 7 {
		return false
	}
	return strings.Trim(code, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") == ""
}

// route chooses the company of a file. A code belongs to one company, or to a channel that many companies
// share: then the buyer decides among them. Two answers that cannot both be right are for a person.
//
//	code (or PEC)   buyer             company
//	one             nobody of ours    the one: a code is an address, and buyers have several identities
//	one             the same          the one
//	one             others only       quarantine: contradiction
//	several         one of them       that one
//	several         none, or several  quarantine: ambiguous
//	none            one               that one, by VAT number, else by tax code
//	none            several           those that both numbers name; not one: quarantine, ambiguous
//	none            none              quarantine: unknown
func route(c candidates) (company, by string, why reason) {
	buyer := c.buyers()
	addressed, how := c.byCode, byCode
	if len(addressed) == 0 {
		addressed, how = c.byPEC, byPEC
	}
	switch {
	case len(addressed) == 1 && (len(buyer) == 0 || slices.Contains(buyer, addressed[0])):
		return addressed[0], how, reason{}
	case len(addressed) == 1:
		return "", "", reason{reasonContradiction, fmt.Sprintf("the address %s is that of %s, the buyer (%s) is %s: claim it for one of them",
			c.shown(how), addressed[0], c.identified, strings.Join(buyer, ", "))}
	case len(addressed) > 1:
		both := intersect(addressed, buyer)
		if len(both) == 1 {
			return both[0], byCodeAndBuyer, reason{}
		}
		return "", "", reason{reasonAmbiguous, fmt.Sprintf("%d companies share the address %s, and %d of them are the buyer (%s)",
			len(addressed), c.shown(how), len(both), c.identified)}
	case len(buyer) == 1 && len(c.byVAT) > 0:
		return buyer[0], byBuyerVAT, reason{}
	case len(buyer) == 1:
		return buyer[0], byBuyerTax, reason{}
	case len(buyer) > 1:
		return "", "", reason{reasonAmbiguous, fmt.Sprintf("%d companies are the buyer (%s), and no recipient code tells them apart", len(buyer), c.identified)}
	}
	return "", "", reason{reasonUnknown, fmt.Sprintf("no company has the recipient code %q or the fiscal ids of the buyer (%s)", c.code, c.identified)}
}

// buyers are the companies that the fiscal ids name: by VAT number, narrowed by the tax code where several
// share the number (a VAT group); by the tax code alone when no VAT number is known.
func (c *candidates) buyers() []string {
	if len(c.byVAT) == 0 {
		return c.byTax
	}
	both := intersect(c.byVAT, c.byTax)
	if len(c.byVAT) > 1 && len(both) > 0 {
		return both
	}
	return c.byVAT
}

func (c *candidates) shown(how string) string {
	if how == byPEC {
		return "(PEC)"
	}
	return c.code
}

func intersect(a, b []string) []string {
	var both []string
	for _, x := range a {
		if slices.Contains(b, x) {
			both = append(both, x)
		}
	}
	return both
}

// errNotReceiving says that the configuration asks for no reception.
func errNotReceiving() error {
	return fault.Precondition("INBOUND_NOT_CONFIGURED", "this gateway receives no invoices: set sdi-gateway.inbound.path (such as /ricezione), inbound.listen, or ftp.receive")
}

// lookUp asks tenancy who the recipients may be. What companies register is read when a file comes in, and
// the answer is written down: a later change moves nothing that has found its company.
func (s *Service) lookUp(ctx context.Context, a address) (candidates, error) {
	c := candidates{identified: strings.TrimSpace(a.vat + " " + a.tax)}
	if s.tenancy == nil {
		return c, errNotReceiving()
	}
	codes := a.codes
	if len(codes) == 0 {
		codes = []string{""}
	}
	for _, code := range codes {
		found, err := s.tenancy.LookUpRecipients(ctx, &tenancyv1.LookUpRecipientsRequest{
			RecipientCode: code, PecAddress: a.pec, VatNumber: a.vat, TaxCode: a.tax,
		})
		if err != nil {
			return c, err
		}
		if c.code == "" {
			c.code = code
		}
		c.byPEC, c.byVAT, c.byTax = found.GetByPecAddress(), found.GetByVatNumber(), found.GetByTaxCode()
		if len(found.GetByRecipientCode()) > 0 {
			c.code, c.byCode = code, found.GetByRecipientCode()
			break
		}
	}
	return c, nil
}
