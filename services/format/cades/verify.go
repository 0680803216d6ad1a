package cades

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"time"

	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/tsp"
)

// Level is how far a signature goes.
type Level string

// The levels that are told apart.
const (
	LevelCMS Level = "CMS"       // no signing-certificate attribute: not CAdES
	LevelBES Level = "CAdES-BES" // signing-certificate attribute
	LevelT   Level = "CAdES-T"   // with a signature time-stamp that holds
)

// VerifyOptions says what to judge by; see cms.VerifyOptions.
type VerifyOptions struct {
	Roots         *x509.CertPool // of signers; nil: trust is not judged
	TSARoots      *x509.CertPool // of time-stamp authorities; nil: their trust is not judged
	Intermediates []*x509.Certificate
	At            time.Time // time of judgement
	Content       io.Reader // of a detached signature
	// ForSdI wants what SdI checks: signing time, and a certificate for signing (nonRepudiation).
	ForSdI bool

	contentSHA256 []byte // see Reader.Detached
}

// StampReport is what is true of one signature time-stamp.
type StampReport struct {
	Time  time.Time `json:"time"`
	Check cms.Check `json:"check"`
}

// SignerReport is a CMS report with the CAdES level and its stamps.
type SignerReport struct {
	cms.SignerReport
	Level  Level         `json:"level"`
	Stamps []StampReport `json:"stamps,omitempty"`
	// CounterSigners are the counter-signatures with their levels; see cms.SignerReport.Counter.
	CounterSigners []SignerReport `json:"counterSigners,omitempty"`
}

// Report is what is true of a p7m.
type Report struct {
	Signers  []SignerReport `json:"signers"`
	Warnings []string       `json:"warnings,omitempty"`
	// ReadError is not nil when the content could not be read: see cms.Report.
	ReadError *cms.ReadError `json:"-"`
}

// Err is nil when there is a signature and all of them hold, stamps included.
func (r *Report) Err() error {
	if r.ReadError != nil {
		return r.ReadError
	}
	if len(r.Signers) == 0 {
		return errors.New("cades: the file holds no signature")
	}
	for i := range r.Signers {
		s := &r.Signers[i]
		if err := s.SignerReport.Err(); err != nil {
			return fmt.Errorf("signature %d of %d: %w", i+1, len(r.Signers), err)
		}
		for _, st := range s.Stamps {
			if st.Check.Verdict == cms.Failed {
				return fmt.Errorf("signature %d of %d: time-stamp: %s", i+1, len(r.Signers), st.Check.Reason)
			}
		}
	}
	return nil
}

// Verify judges every signature of a p7m. The error is that of a file that cannot be read; a
// signature that does not hold is in the report, and the content is sd.Content() all the same.
func Verify(p7m []byte, o VerifyOptions) (*cms.SignedData, *Report, error) {
	sd, err := cms.Parse(p7m)
	if err != nil {
		return nil, nil, fmt.Errorf("cades: %w", err)
	}
	return sd, Judge(sd, o), nil
}

// Judge is Verify for a file that was read already.
func Judge(sd *cms.SignedData, o VerifyOptions) *Report {
	base := sd.Verify(cms.VerifyOptions{
		Roots: o.Roots, Intermediates: o.Intermediates, At: o.At, Content: o.Content,
		ContentSHA256:            o.contentSHA256,
		RequireContentCommitment: o.ForSdI, RequireSigningTime: o.ForSdI, RequireESS: o.ForSdI,
	})
	r := &Report{Warnings: base.Warnings, ReadError: base.ReadError}
	for i, b := range base.Signers {
		r.Signers = append(r.Signers, judgeSigner(b, sd.Signers[i], o))
	}
	return r
}

// judgeSigner adds the level, the stamps and the counter-signatures.
func judgeSigner(b cms.SignerReport, si *cms.SignerInfo, o VerifyOptions) SignerReport {
	s := SignerReport{SignerReport: b, Level: LevelCMS}
	if b.ESS.Verdict == cms.Passed {
		s.Level = LevelBES
	}
	for _, raw := range si.Unsigned(cms.OIDSignatureTimeStamp) {
		st := judgeStamp(raw, si.Signature, o)
		if st.Check.Verdict == cms.Passed && s.Level == LevelBES {
			s.Level = LevelT
		}
		s.Stamps = append(s.Stamps, st)
	}
	counters, _ := si.CounterSigners() // what cannot be read is a warning of the report
	for i, c := range counters[:min(len(counters), len(b.Counter))] {
		s.CounterSigners = append(s.CounterSigners, judgeSigner(b.Counter[i], c, o))
	}
	return s
}

// judgeStamp checks a signature time-stamp over the signature value. spec: EN319122-1 §5.3
func judgeStamp(raw, sig []byte, o VerifyOptions) StampReport {
	tok, err := tsp.ParseToken(raw)
	if err != nil {
		return StampReport{Check: cms.Check{Verdict: cms.Failed, Reason: err.Error()}}
	}
	h := tok.Info.Hash.New()
	h.Write(sig)
	st := StampReport{Time: tok.Info.Time, Check: cms.Check{Verdict: cms.Passed}}
	err = tok.Verify(tsp.VerifyOptions{Digest: h.Sum(nil), Roots: o.TSARoots, Intermediates: o.Intermediates})
	if err != nil {
		st.Check = cms.Check{Verdict: cms.Failed, Reason: err.Error()}
	} else if !o.At.IsZero() && tok.Info.Time.After(o.At.Add(time.Minute)) {
		st.Check = cms.Check{Verdict: cms.Failed, Reason: fmt.Sprintf("stamped at %s, after the time of judgement", tok.Info.Time.Format(time.RFC3339))}
	}
	return st
}

// CheckOutput is Reader.Attached for a single file.
func CheckOutput(p7m, content []byte, cert *x509.Certificate) error {
	return new(Reader).Attached(p7m, content, cert)
}

// Reader reads files back that were just made. It judges neither trust nor time: the maker knows both. It remembers
// certificates, so that whoever makes many files with a few keys parses them once. The zero value is ready, and
// goroutines may share it.
type Reader struct{ certificates cms.Certificates }

// Attached says whether a p7m holds exactly content and one intact signature by cert.
func (r *Reader) Attached(p7m, content []byte, cert *x509.Certificate) error {
	sd, err := r.check(p7m, VerifyOptions{}, cert)
	if err != nil {
		return err
	}
	if sd.Detached || !bytes.Equal(sd.Content(), content) {
		return errors.New("cades: output holds another content")
	}
	return nil
}

// Detached says whether a file without content is one intact signature by cert over the content of that SHA-256.
func (r *Reader) Detached(der, contentSHA256 []byte, cert *x509.Certificate) error {
	sd, err := r.check(der, VerifyOptions{contentSHA256: contentSHA256}, cert)
	if err != nil {
		return err
	}
	if !sd.Detached {
		return errors.New("cades: output holds content")
	}
	return nil
}

func (r *Reader) check(file []byte, o VerifyOptions, cert *x509.Certificate) (*cms.SignedData, error) {
	sd, err := r.certificates.ParseLimited(file, cms.Limits{})
	if err != nil {
		return nil, fmt.Errorf("cades: %w", err)
	}
	if sd.BER || sd.Trailing != 0 || sd.Armour != cms.ArmourNone {
		return nil, errors.New("cades: output is not plain DER")
	}
	rep := Judge(sd, o)
	if err := rep.Err(); err != nil {
		return nil, err
	}
	if len(rep.Signers) != 1 || rep.Signers[0].Level == LevelCMS || !rep.Signers[0].Certificate.Equal(cert) {
		return nil, errors.New("cades: output is not one CAdES signature by the certificate that was asked for")
	}
	return sd, nil
}
