package validation

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"slices"
)

// Statements are the QcStatements of a certificate: what its issuer says that it is. Whether that may
// be believed, trusted lists say. spec: EN319412-5 §4.2, §4.3
type Statements struct {
	// Compliance: it is qualified, by the law of the Union unless Countries says of which other.
	Compliance bool
	Device     bool // QcSSCD: its key is in a qualified device
	// Types are what it is for; none: for signatures.
	Signature, Seal, Web, Other bool
	Countries                   []string // QcCClegislation
}

var (
	oidQCStatements  = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 3}
	oidQCCompliance  = asn1.ObjectIdentifier{0, 4, 0, 1862, 1, 1}
	oidQCSSCD        = asn1.ObjectIdentifier{0, 4, 0, 1862, 1, 4}
	oidQCType        = asn1.ObjectIdentifier{0, 4, 0, 1862, 1, 6}
	oidQCLegislation = asn1.ObjectIdentifier{0, 4, 0, 1862, 1, 7}
)

// StatementsOf reads the QcStatements of a certificate; none are no error.
func StatementsOf(cert *x509.Certificate) (Statements, error) {
	var out Statements
	for _, e := range cert.Extensions {
		if !e.Id.Equal(oidQCStatements) {
			continue
		}
		var list []struct {
			ID   asn1.ObjectIdentifier
			Info asn1.RawValue `asn1:"optional"`
		}
		if err := whole(e.Value, &list); err != nil {
			return Statements{}, fmt.Errorf("validation: QcStatements: %w", err)
		}
		for _, st := range list {
			switch {
			case st.ID.Equal(oidQCCompliance):
				out.Compliance = true
			case st.ID.Equal(oidQCSSCD):
				out.Device = true
			case st.ID.Equal(oidQCLegislation):
				if err := whole(st.Info.FullBytes, &out.Countries); err != nil {
					return Statements{}, fmt.Errorf("validation: QcCClegislation: %w", err)
				}
			case st.ID.Equal(oidQCType):
				var types []asn1.ObjectIdentifier
				if err := whole(st.Info.FullBytes, &types); err != nil {
					return Statements{}, fmt.Errorf("validation: QcType: %w", err)
				}
				for _, id := range types {
					switch {
					case id.Equal(append(slices.Clone(oidQCType), 1)):
						out.Signature = true
					case id.Equal(append(slices.Clone(oidQCType), 2)):
						out.Seal = true
					case id.Equal(append(slices.Clone(oidQCType), 3)):
						out.Web = true
					default:
						out.Other = true
					}
				}
			}
		}
	}
	return out, nil
}

func whole(der []byte, into any) error {
	rest, err := asn1.Unmarshal(der, into)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%d bytes after the end", len(rest))
	}
	return err
}

// use is what a certificate is for by its statements, as trusted lists name it.
func (s Statements) use() (string, bool) {
	switch {
	case s.Other:
	case s.Seal && !s.Signature && !s.Web:
		return forSeals, true
	case s.Web && !s.Signature && !s.Seal:
		return forWeb, true
	case !s.Seal && !s.Web: // without a type too. spec: EN319412-5 §4.2.3
		return forSignatures, true
	}
	return "", false
}
