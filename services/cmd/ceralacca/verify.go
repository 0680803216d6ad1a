package main

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ceralacca.dev/services/format/dossier"
	"ceralacca.dev/services/format/trustlist"
	"ceralacca.dev/services/format/validation"
	reports "ceralacca.dev/services/format/validation/verdict"
	"ceralacca.dev/services/internal/spool"
)

// exitIndeterminate is of verify: none failed, and not all could be judged to the end.
const exitIndeterminate = 3

// judgement is what verify says of one file: a report, or why there is none.
type judgement struct {
	File string `json:"file"`
	*validation.Report
	Text    string          `json:"text,omitempty"` // the conclusion in the language asked for
	Content *contentOf      `json:"content,omitempty"`
	Notes   []string        `json:"notes,omitempty"`   // what must be known beside the report
	Dossier *dossier.Report `json:"dossier,omitempty"` // of the bundle of a signature request
	Error   string          `json:"error,omitempty"`
}

// contentOf is what was signed, out of all envelopes.
type contentOf struct {
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
	Saved  string `json:"saved,omitempty"` // file that it was written to
	// Withheld is why it was not written although that was asked for.
	Withheld string `json:"withheld,omitempty"`
}

// verification are the flags of verify.
type verification struct {
	content, roots, at, lang, extract, report string
	lists, signers, crls, ocsps               []string
	online                                    bool

	beside *opened // --content
}

func (v *verification) close() {
	if v.beside != nil {
		_ = v.beside.Close() // it was read only
	}
}

func (c *cli) verifyCommand() *cobra.Command {
	var v verification
	cmd := verb("verify FILE...", "Judge signatures and time stamps: total-passed, indeterminate or total-failed, and why", args("FILE..."), func(ctx context.Context, given []string) error {
		o, err := c.judgeBy(&v, given)
		defer v.close()
		if err != nil {
			return err
		}
		code := exitOK
		for _, name := range given {
			j := c.verifyFile(ctx, name, &v, o)
			if err := ctx.Err(); err != nil {
				return err
			}
			if c.format == formatJSON {
				printJSON(c.out, j)
			} else {
				c.showJudgement(j, v.lang)
				if j.Dossier != nil {
					c.showDossier(j.Dossier, v.lang)
				}
			}
			code = worseExit(code, j.code())
		}
		if code != exitOK {
			return quietError(code)
		}
		return nil
	})
	cmd.Long = cmd.Short + `.

Takes .p7m (attached, detached with --content, envelopes inside each other), XML and PDF with signatures, .tsr and
.tsd time stamps, .m7m, and the .zip bundles of signature requests. The verdicts and reasons are those of ETSI EN 319 102-1. It works offline, nothing is
fetched and no byte of FILE leaves this machine, unless --online has the platform judge it. Offline, total-passed needs whom to trust (--roots, or --trust-list with the certificate of who signs it) and revocation data of every
certificate but the roots (--crl, --ocsp). What the signature is legally (qualified or not) is told only from trusted
lists. "inspect" describes a file, "verify" judges it.

Exit code 0: all passed; 1: at least one failed, whatever else went wrong; 2: at least one file could not be judged at
all (it cannot be read, or holds no signature), or what --extract and --report asked for could not be written; 3: none failed and at least one is indeterminate. JSON is one object for each file.`
	f := cmd.Flags()
	f.StringVar(&v.content, "content", "", "the file that a detached signature or a time stamp is about; for one FILE")
	f.StringVar(&v.roots, "roots", "", "certificates to trust, PEM")
	f.StringArrayVar(&v.lists, "trust-list", nil, "EU trusted list, XML: a national one, the list of the lists, its pivots; may be repeated")
	f.StringArrayVar(&v.signers, "list-signer", nil, "certificates that sign the list of the lists (from the Official Journal) or a national list that is used alone, PEM; may be repeated")
	f.StringArrayVar(&v.crls, "crl", nil, "revocation list, DER or PEM; may be repeated")
	f.StringArrayVar(&v.ocsps, "ocsp", nil, "OCSP response, DER; may be repeated")
	f.StringVar(&v.at, "at", "", "time of judgement, such as 2026-05-15 or 2026-05-15T12:00:00Z; now when empty")
	f.StringVar(&v.lang, "lang", "en", "language of the text: it or en")
	f.StringVar(&v.extract, "extract", "", "folder to write what was signed to, out of its envelopes; nothing is overwritten, and of a file that failed nothing is written")
	f.StringVar(&v.report, "report", "", "also write the report to this file: .html, .pdf or .json; for one FILE")
	f.BoolVar(&v.online, "online", false, "send FILE to the platform, which judges by its trusted lists and asks for revocation (OCSP, CRL)")
	return cmd
}

// judgeBy reads all that is judged by.
func (c *cli) judgeBy(v *verification, given []string) (validation.Options, error) {
	o := validation.Options{At: c.now()}
	if v.lang != "it" && v.lang != "en" {
		return o, usage("--lang is it or en, not %q", v.lang)
	}
	if v.content != "" && len(given) > 1 {
		return o, usage("--content is for one FILE, and there are %d", len(given))
	}
	if v.report != "" && len(given) > 1 {
		return o, usage("--report is for one FILE, and there are %d", len(given))
	}
	if err := v.checkOnline(); err != nil {
		return o, err
	}
	if len(v.lists) == 0 && len(v.signers) > 0 {
		return o, usage("--list-signer without --trust-list")
	}
	at, err := parseTime("at", v.at)
	if err != nil {
		return o, err
	}
	if at != nil {
		o.At = at.AsTime()
	}
	if v.content != "" {
		if v.beside, err = c.openSource(v.content); err != nil {
			return o, usage("--content: %w", err)
		}
		o.Beside = v.beside
	}
	if v.roots != "" {
		if o.Roots, err = c.certificatesIn("--roots", v.roots); err != nil {
			return o, err
		}
	}
	for _, name := range v.crls {
		raw, err := c.readUpTo(name, largestPackage)
		if err != nil {
			return o, usage("--crl: %w", err)
		}
		list, err := validation.ParseCRL(raw)
		if err != nil {
			return o, usage("--crl: %s: %s", name, plain(err))
		}
		o.CRLs = append(o.CRLs, list)
	}
	for _, name := range v.ocsps {
		raw, err := c.readUpTo(name, largestPackage)
		if err != nil {
			return o, usage("--ocsp: %w", err)
		}
		o.OCSPs = append(o.OCSPs, raw)
	}
	o.Trust, err = c.trustLists(v, o.At)
	return o, err
}

func (c *cli) trustLists(v *verification, at time.Time) (*trustlist.Trust, error) {
	if len(v.lists) == 0 {
		return nil, nil
	}
	var signers []*x509.Certificate
	for _, name := range v.signers {
		list, err := c.certificatesIn("--list-signer", name)
		if err != nil {
			return nil, err
		}
		signers = append(signers, list...)
	}
	var raws [][]byte
	for _, name := range v.lists {
		raw, err := c.readUpTo(name, largestPackage)
		if err != nil {
			return nil, usage("--trust-list: %w", err)
		}
		raws = append(raws, raw)
	}
	trust, err := trustlist.Load(raws, signers, at)
	if err != nil {
		return nil, usage("--trust-list: %v", err)
	}
	return trust, nil
}

func (c *cli) certificatesIn(flag, name string) ([]*x509.Certificate, error) {
	raw, err := c.readFlag(flag, name, largestFile)
	if err != nil {
		return nil, err
	}
	var out []*x509.Certificate
	for rest := raw; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, usage("%s: %s: %v", flag, name, err)
		}
		out = append(out, cert)
	}
	if len(out) == 0 {
		return nil, usage("%s: %s holds no PEM certificate", flag, name)
	}
	return out, nil
}

func (c *cli) verifyFile(ctx context.Context, name string, v *verification, o validation.Options) *judgement {
	j := &judgement{File: name}
	file, err := c.openSource(name)
	if err != nil {
		j.Error = inWords(err)
		return j
	}
	defer file.Close()
	if dossier.Looks(file) {
		return c.verifyDossier(ctx, j, file, v, o)
	}
	var answer *spool.File
	if v.online {
		answer = spool.New("", largestPackage)
		defer answer.Close()
		j.Report, j.Notes, err = c.judgeOnline(ctx, name, file, v, o, answer)
	} else {
		j.Report, err = validation.ValidateSource(ctx, file, o)
	}
	if err != nil {
		j.Error = strings.TrimPrefix(err.Error(), "validation: ")
		if errors.Is(err, validation.ErrUnsigned) && v.lang == "it" {
			j.Error = "il file non contiene né firme né marche temporali"
		}
		return j
	}
	text := j.Report.Text()
	j.Text = text.EN
	if v.lang == "it" {
		j.Text = text.IT
	}
	var wrong []string
	if err := v.keep(j, name); err != nil {
		wrong = append(wrong, inWords(err))
	}
	if v.report != "" {
		if err := v.writeReport(j, name, file); err != nil {
			wrong = append(wrong, "--report: "+inWords(err))
		}
	}
	j.Error = strings.Join(wrong, "; ")
	// What is read from the file cannot be read any more.
	j.Extracted = nil
	return j
}

// keep describes what was signed, and writes it down where that is asked for.
func (v *verification) keep(j *judgement, name string) error {
	content := j.Extracted
	if content == nil || j.Given {
		return nil
	}
	sum, err := sha256Of(content)
	if err != nil {
		return err
	}
	j.Content = &contentOf{Size: content.Size(), SHA256: hex.EncodeToString(sum)}
	switch {
	case v.extract == "":
		return nil
	case j.Verdict == validation.Failed:
		// Whoever goes on with what is in the folder takes it for what somebody signed.
		j.Content.Withheld = "the signatures do not hold: nothing was written"
		if v.lang == "it" {
			j.Content.Withheld = "le firme non sono valide: non è stato scritto nulla"
		}
		return nil
	}
	if j.Content.Saved, err = save(v.extract, name, content); err != nil {
		return fmt.Errorf("--extract: %w", err)
	}
	return nil
}

// save writes the content under the name of the file without the endings of its envelopes.
func save(dir, name string, content validation.Source) (string, error) {
	base := filepath.Base(name)
	for slices.Contains([]string{".p7m", ".tsd", ".m7m", ".p7s"}, strings.ToLower(filepath.Ext(base))) && base != filepath.Ext(base) {
		base = strings.TrimSuffix(base, filepath.Ext(base))
	}
	if base == "-" || base == filepath.Base(name) {
		base += ".content"
	}
	path := filepath.Join(dir, base)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	_, err = io.Copy(f, whole(content))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(path)) // half of it is nothing
	}
	return path, nil
}

// code: that a signature does not hold counts, whatever else went wrong.
func (j *judgement) code() int {
	switch {
	case j.Report != nil && j.Verdict == validation.Failed:
		return exitRefused
	case j.Error != "":
		return exitUsage
	case j.Verdict == validation.Passed:
		return exitOK
	}
	return exitIndeterminate
}

// worseExit: a failure counts most, then a file that could not be judged at all.
func worseExit(a, b int) int {
	order := []int{exitOK, exitIndeterminate, exitUsage, exitRefused}
	if slices.Index(order, b) > slices.Index(order, a) {
		return b
	}
	return a
}

func (c *cli) showJudgement(j *judgement, lang string) {
	say := func(word string) string { return reports.Word(word, lang) }
	pick := func(t validation.Text) string { return reports.Pick(t, lang) }
	if j.Report == nil {
		fmt.Fprintf(c.errOut, "ceralacca: %s: %s\n", j.File, j.Error)
		return
	}
	fmt.Fprintf(c.out, "%s: %s\n", j.File, pick(j.Verdict.Word()))
	if j.Sub != "" {
		fmt.Fprintf(c.out, "  %s: %s\n", j.Sub, j.Text)
	}
	if len(j.Signatures)+len(j.Stamps) == 0 {
		c.indented(say("detail"), j.Reason)
	}
	for i := range j.Signatures {
		s := &j.Signatures[i]
		fmt.Fprintf(c.out, "  %s %d (%s): %s\n", say("signature"), i+1, s.Form, pick(s.Verdict.Word()))
		c.showSignature(s, say, pick)
	}
	for i := range j.Stamps {
		c.showStamp(&j.Stamps[i], "  ", say, pick)
	}
	for _, w := range append(slices.Clone(j.Warnings), j.Notes...) {
		fmt.Fprintf(c.out, "  %s: %s\n", say("warning"), w)
	}
	if j.Content != nil {
		fmt.Fprintf(c.out, "  %s: %d byte, SHA-256 %s\n", say("content"), j.Content.Size, j.Content.SHA256)
		if j.Content.Saved != "" {
			fmt.Fprintf(c.out, "  %s: %s\n", say("saved"), j.Content.Saved)
		}
		if j.Content.Withheld != "" {
			fmt.Fprintf(c.out, "  %s: %s\n", say("warning"), j.Content.Withheld)
		}
	}
	if j.Error != "" {
		fmt.Fprintf(c.errOut, "ceralacca: %s: %s\n", j.File, j.Error)
	}
}

func (c *cli) showSignature(s *validation.Signature, say func(string) string, pick func(validation.Text) string) {
	if s.Sub != "" {
		c.indented(say("reason"), string(s.Sub)+": "+pick(s.Text()))
		c.indented(say("detail"), s.Reason)
	}
	if p := s.Signer; p != nil {
		c.indented(say("signer"), p.Name)
		c.indented(say("id"), p.ID)
		c.indented(say("organization"), p.Organization)
		c.indented(say("issuer"), p.Issuer)
	}
	intact := say("no")
	if s.Integrity {
		intact = say("yes")
	}
	c.indented(say("intact"), intact)
	c.indented(say("level"), s.Level)
	if s.CounterSigns > 0 {
		c.indented(say("counter-signature of signature"), strconv.Itoa(s.CounterSigns))
	}
	if !s.Claimed.IsZero() {
		c.indented(say("stated time"), s.Claimed.Format(time.RFC3339))
	}
	if !s.BestTime.IsZero() {
		word := "judged at"
		if s.Proven {
			word = "proven time"
		}
		c.indented(say(word), s.BestTime.UTC().Format(time.RFC3339))
	}
	for _, l := range s.Chain {
		if !l.Anchor {
			c.indented(say("revocation"), strings.TrimSuffix(l.Subject+": "+l.Revocation+" ("+l.Source+")", " ()"))
		}
	}
	var used []string
	for _, a := range s.Algorithms {
		if !slices.Contains(used, a.Name) {
			used = append(used, a.Name)
		}
	}
	c.indented(say("algorithms"), strings.Join(used, ", "))
	c.indented(say("qualification"), strings.TrimSuffix(say(s.Qualification.Result)+" ("+s.Qualification.Reason+")", " ()"))
	for _, w := range s.Warnings {
		c.indented(say("warning"), w)
	}
	for i := range s.Stamps {
		c.showStamp(&s.Stamps[i], "    ", say, pick)
	}
}

func (c *cli) showStamp(s *validation.Stamp, margin string, say func(string) string, pick func(validation.Text) string) {
	fmt.Fprintf(c.out, "%s%s (%s): %s\n", margin, say("time stamp"), s.Kind, pick(s.Verdict.Word()))
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(c.out, "%s  %s: %s\n", margin, say(name), value)
		}
	}
	if s.Sub != "" {
		line("reason", string(s.Sub)+": "+pick(s.Text()))
		line("detail", s.Reason)
	}
	if !s.Time.IsZero() {
		line("time", s.Time.UTC().Format(time.RFC3339))
	}
	line("authority", s.Authority)
	line("qualified", say(s.Qualified))
}

func (c *cli) indented(name, value string) {
	if value != "" {
		fmt.Fprintf(c.out, "    %s: %s\n", name, value)
	}
}
