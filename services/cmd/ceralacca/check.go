package main

import (
	"archive/zip"
	"context"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"ceralacca.dev/services/format/fatturapa"
)

// checked is the outcome for one file; Valid is null when it was not judged.
type checked struct {
	File      string         `json:"file"`
	Valid     *bool          `json:"valid"`
	Format    string         `json:"format,omitempty"`    // FPA12, FPR12 or FSM10
	Documents int            `json:"documents,omitempty"` // of a lot, more than one
	Rules     string         `json:"rules,omitempty"`     // the version of the rules that were applied
	Skipped   string         `json:"skipped,omitempty"`   // why a file of a folder or archive is none to check
	Error     string         `json:"error,omitempty"`     // why a file could not be judged
	Findings  []checkFinding `json:"findings"`
	Omitted   int            `json:"omitted,omitempty"` // findings beyond the two hundred that SdI lists
	// NeedsAuthority are the controls that only the registers of SdI decide.
	NeedsAuthority []string `json:"needs_authority_data,omitempty"`
	// Signatures and what is wrong with them stand apart from the invoice: they count for Valid with
	// --signatures only.
	Signatures        []signatureDescription `json:"signatures,omitempty"`
	SignatureFindings []checkFinding         `json:"signature_findings,omitempty"`
	SignatureWarnings []string               `json:"signature_warnings,omitempty"` // what is odd and against no control
}

type checkFinding struct {
	Code     string `json:"code"`
	Severity string `json:"severity"`
	Message  string `json:"message"`
	Hint     string `json:"hint,omitempty"`
	XPath    string `json:"xpath,omitempty"`
	JSONPath string `json:"json_path,omitempty"` // the place in what invoice convert writes
	Line     int    `json:"line,omitempty"`
	Actual   string `json:"actual,omitempty"`
	Expected string `json:"expected,omitempty"`
	Clause   string `json:"clause,omitempty"` // of the official text
	// NeedsAuthorityData marks a local check of what only a register can decide.
	NeedsAuthorityData bool `json:"needs_authority_data,omitempty"`
}

func (c *cli) checkCommand() *cobra.Command {
	var at, lang, caFile, digits string
	var names, signatures bool
	cmd := verb("check FILE|DIR|ZIP...", "Check invoices offline by the rules of SdI", args("FILE|DIR|ZIP..."), func(ctx context.Context, given []string) error {
		if lang != "it" && lang != "en" {
			return usage("--lang is it or en, not %q", lang)
		}
		day, err := parseTime("at", at)
		if err != nil {
			return err
		}
		worth, known := map[string]fatturapa.CheckDigits{"off": fatturapa.CheckDigitsOff, "warning": fatturapa.CheckDigitsWarn, "error": fatturapa.CheckDigitsError}[digits]
		if !known {
			return usage("--check-digits is off, warning or error, not %q", digits)
		}
		k := &checker{in: c.in, lang: lang, names: names, signatures: signatures, digits: worth, at: c.now()}
		if caFile != "" {
			k.roots, err = c.loadRoots(caFile)
			if err != nil {
				return err
			}
		}
		if day != nil {
			k.at = day.AsTime()
		}
		return c.checkAll(ctx, k, given)
	})
	cmd.Long = cmd.Short + `.

No server and no database are needed. Invoices are read from XML, signed files (.p7m, or signed XML), ZIP archives and
folders with all that is below them; - is standard input. With --format json each file is one JSON object on a line of
its own. Controls that need the registers of SdI are not made; needs_authority_data lists them.

What is true of signatures is told apart and never keeps an invoice from being read and judged: it counts for the
outcome with --signatures only. Without --roots nobody is asked whom the certificate comes from.

Exit code 0: all are valid; 1: at least one has an error; 2: at least one could not be judged, or there was none.`
	cmd.Flags().StringVar(&at, "at", "", "day of sending, such as 2026-05-15: its rules are applied; today when empty")
	cmd.Flags().StringVar(&lang, "lang", "en", "language of the messages: it or en")
	cmd.Flags().BoolVar(&signatures, "signatures", false, "let signatures count too: one that does not hold makes the file not valid")
	cmd.Flags().StringVar(&digits, "check-digits", "warning", "what a wrong check digit of a VAT number or tax code is worth: off, warning or error")
	cmd.Flags().StringVar(&caFile, "roots", "", "certificates to trust, PEM")
	cmd.Flags().BoolVar(&names, "names", false, "judge the file names too, as SdI does when it receives them")
	return cmd
}

// checker judges files, several at a time, and gives the outcomes in order.
type checker struct {
	in         io.Reader
	lang       string
	names      bool
	signatures bool
	digits     fatturapa.CheckDigits
	roots      *x509.CertPool
	at         time.Time

	queue chan *checkUnit // in order, for the one who prints
	work  chan *checkUnit
}

// checkUnit is one file to come: how to read it, or its outcome when that is known already.
type checkUnit struct {
	name   string
	inside bool // of a folder or archive: it may be something else than an invoice
	open   func() (io.ReadCloser, error)
	out    chan checked
	done   func()
}

// checkAll prints each outcome as soon as those before it are printed. What waits is bounded: a few files for
// each processor.
func (c *cli) checkAll(ctx context.Context, k *checker, given []string) error {
	workers := runtime.GOMAXPROCS(0)
	k.queue, k.work = make(chan *checkUnit, 4*workers), make(chan *checkUnit, 2*workers)
	var pool sync.WaitGroup
	for range workers {
		pool.Go(func() {
			for u := range k.work {
				u.out <- k.judge(u)
				u.done()
			}
		})
	}
	pool.Go(func() {
		for _, name := range given {
			k.argument(ctx, name)
		}
		close(k.work)
		close(k.queue)
	})
	var total checkTotal
	for u := range k.queue {
		r := <-u.out
		total.add(&r)
		c.showChecked(&r, k.lang)
	}
	pool.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	if c.format == formatText && total.files != 1 {
		fmt.Fprintln(c.out, total.String(k.lang))
	}
	return total.result()
}

// argument finds the files that a word of the command line means.
func (k *checker) argument(ctx context.Context, name string) {
	if name == "-" {
		k.emit(ctx, &checkUnit{name: name, open: func() (io.ReadCloser, error) { return io.NopCloser(k.in), nil }})
		return
	}
	info, err := os.Stat(name)
	switch {
	case err != nil:
		k.known(ctx, checked{File: name, Error: inWords(err)})
	case info.IsDir():
		k.folder(ctx, name)
	case !info.Mode().IsRegular():
		k.known(ctx, checked{File: name, Error: noFile.In(k.lang)})
	default:
		k.file(ctx, name, false)
	}
}

// folder walks in lexical order. Links are not followed, so that no file is met twice and no walk is endless.
func (k *checker) folder(ctx context.Context, root string) {
	_ = filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error { // ends early only when ctx is done
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			k.known(ctx, checked{File: name, Error: inWords(err)})
			if entry != nil && entry.IsDir() {
				return fs.SkipDir
			}
		case entry.IsDir():
		case !entry.Type().IsRegular():
			k.known(ctx, checked{File: name, Skipped: aLink.In(k.lang)})
		default:
			k.file(ctx, name, true)
		}
		return nil
	})
}

// file decides by the first bytes whether a file is an archive, and by its name whether a file of a folder is
// meant to be an invoice.
func (k *checker) file(ctx context.Context, name string, inside bool) {
	f, err := os.Open(name)
	if err != nil {
		k.known(ctx, checked{File: name, Error: inWords(err)})
		return
	}
	head := make([]byte, 4)
	n, _ := io.ReadFull(f, head) // a file that is shorter is no archive
	if isZIP(head[:n]) {
		k.archive(ctx, name, f)
		return
	}
	_ = f.Close()
	if inside && !endsLikeInvoice(name) {
		k.known(ctx, checked{File: name, Skipped: notByName.In(k.lang)})
		return
	}
	k.emit(ctx, &checkUnit{name: name, inside: inside, open: func() (io.ReadCloser, error) { return os.Open(name) }})
}

// Why a file of a folder or archive is none to check, or cannot be judged.
var (
	notByName = fatturapa.Text{IT: "né .xml né .p7m", EN: "neither .xml nor .p7m"}
	aLink     = fatturapa.Text{IT: "un collegamento o dispositivo", EN: "a link or device"}
	noFile    = fatturapa.Text{IT: "non è un file né una cartella; lo standard input è -", EN: "this is neither a file nor a folder; standard input is -"}
	noArchive = fatturapa.Text{IT: "l'archivio non si legge: ", EN: "the archive cannot be read: "}
	noMembers = fatturapa.Text{IT: "l'archivio è vuoto", EN: "the archive is empty"}
	encrypted = fatturapa.Text{IT: "cifrato: il SdI e questo programma leggono solo archivi in chiaro", EN: "encrypted: SdI and this tool read plain archives only"}
	zipInAZIP = fatturapa.Text{IT: "un archivio dentro un archivio: il SdI non ne accetta; estrarlo e controllarlo a parte", EN: "an archive inside an archive: SdI takes none; unpack it and check it apart"}
)

func isZIP(head []byte) bool {
	return string(head) == "PK\x03\x04" || string(head) == "PK\x05\x06"
}

func endsLikeInvoice(name string) bool {
	ending := strings.ToLower(path.Ext(name))
	return ending == ".xml" || ending == ".p7m"
}

// archive checks the members of a ZIP and closes it when the last of them is judged.
func (k *checker) archive(ctx context.Context, name string, f *os.File) {
	defer f.Close()
	z, err := openZIP(f)
	if err != nil {
		k.known(ctx, checked{File: name, Error: noArchive.In(k.lang) + err.Error()})
		return
	}
	if len(z.File) == 0 {
		k.known(ctx, checked{File: name, Error: noMembers.In(k.lang)})
	}
	var members sync.WaitGroup
	for _, m := range z.File {
		if ctx.Err() != nil {
			break
		}
		at := name + "/" + m.Name
		switch {
		case m.FileInfo().IsDir():
		case m.Flags&1 != 0:
			k.known(ctx, checked{File: at, Error: encrypted.In(k.lang)})
		case strings.EqualFold(path.Ext(m.Name), ".zip"):
			k.known(ctx, checked{File: at, Error: zipInAZIP.In(k.lang)})
		case !endsLikeInvoice(m.Name):
			k.known(ctx, checked{File: at, Skipped: notByName.In(k.lang)})
		default:
			members.Add(1)
			if !k.emit(ctx, &checkUnit{name: at, inside: true, open: m.Open, done: members.Done}) {
				members.Done()
			}
		}
	}
	members.Wait()
}

// largestDirectory bounds the list of members, which is kept in memory: about a hundred thousand.
const largestDirectory = 16 << 20

// openZIP reads the list of members, after a look at its size where the archive says it.
func openZIP(f *os.File) (*zip.Reader, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	const end, wide, locator = 22, 56, 20 // bytes of the records at the end (APPNOTE 4.3.14 to 4.3.16)
	tail := make([]byte, min(info.Size(), 1<<16+end+wide+locator))
	_, err = f.ReadAt(tail, info.Size()-int64(len(tail)))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	size := uint64(0)
	if i := strings.LastIndex(string(tail), "PK\x05\x06"); i >= 0 && i+end <= len(tail) {
		size = uint64(binary.LittleEndian.Uint32(tail[i+12:]))
	}
	if i := strings.LastIndex(string(tail), "PK\x06\x06"); size == 1<<32-1 && i >= 0 && i+wide <= len(tail) {
		size = binary.LittleEndian.Uint64(tail[i+40:])
	}
	if size > largestDirectory {
		return nil, fmt.Errorf("its list of members has %d bytes, at most %d are read: split the archive", size, largestDirectory)
	}
	archive, err := zip.NewReader(f, info.Size())
	if errors.Is(err, zip.ErrFormat) {
		return nil, errors.New("it is no ZIP, or it was cut: make or fetch it again")
	}
	return archive, err
}

// emit hands a file to those who judge and to the one who prints; false when the command was interrupted.
func (k *checker) emit(ctx context.Context, u *checkUnit) bool {
	u.out = make(chan checked, 1)
	if u.done == nil {
		u.done = func() {}
	}
	select {
	case k.queue <- u:
	case <-ctx.Done():
		return false
	}
	k.work <- u // those who judge never wait for anybody
	return true
}

// known hands an outcome to the one who prints, in its turn.
func (k *checker) known(ctx context.Context, r checked) {
	u := &checkUnit{out: make(chan checked, 1)}
	u.out <- r
	select {
	case k.queue <- u:
	case <-ctx.Done():
	}
}

// checkTotal counts outcomes.
type checkTotal struct{ files, valid, invalid, failed, skipped int }

func (t *checkTotal) add(r *checked) {
	t.files++
	switch {
	case r.Skipped != "":
		t.skipped++
	case r.Valid == nil:
		t.failed++
	case *r.Valid:
		t.valid++
	default:
		t.invalid++
	}
}

func (t *checkTotal) String(lang string) string {
	if lang == "it" {
		return fmt.Sprintf("file: %d; validi: %d; con errori: %d; non giudicati: %d; tralasciati: %d", t.files, t.valid, t.invalid, t.failed, t.skipped)
	}
	return fmt.Sprintf("files: %d; valid: %d; with errors: %d; not judged: %d; skipped: %d", t.files, t.valid, t.invalid, t.failed, t.skipped)
}

// result is the exit code. A run that judged nothing did not succeed.
func (t *checkTotal) result() error {
	switch {
	case t.failed > 0:
		return quietError(exitUsage)
	case t.invalid > 0:
		return quietError(exitRefused)
	case t.valid == 0:
		return usage("there is no invoice to check: only files that end in .xml or .p7m are looked at in folders and archives")
	}
	return nil
}

// showChecked prints an outcome: one line of JSON, or text with a line for each finding.
func (c *cli) showChecked(r *checked, lang string) {
	if c.format == formatJSON {
		if r.Findings == nil {
			r.Findings = []checkFinding{}
		}
		encoder := json.NewEncoder(c.out)
		encoder.SetEscapeHTML(false)
		_ = encoder.Encode(r) // plain values
		return
	}
	italian := lang == "it"
	pick := func(it, en string) string {
		if italian {
			return it
		}
		return en
	}
	state := pick("non valido", "not valid")
	switch {
	case r.Skipped != "":
		state = pick("tralasciato: ", "skipped: ") + r.Skipped
	case r.Valid == nil:
		state = pick("non giudicato: ", "not judged: ") + r.Error
	case *r.Valid:
		state = pick("valido", "valid")
	}
	fmt.Fprintf(c.out, "%s: %s\n", printable(r.File), printable(state))
	for i := range r.Findings {
		c.showFinding(&r.Findings[i], italian)
	}
	if r.Omitted > 0 {
		fmt.Fprintf(c.out, pick("  e altri %d\n", "  and %d more\n"), r.Omitted)
	}
	for _, x := range r.Signatures {
		holds := pick("integra", "holds")
		if !x.Holds {
			holds = pick("NON VALIDA", "DOES NOT HOLD")
		}
		fmt.Fprintf(c.out, "  %s %s %s: %s%s\n", pick("firma", "signature"), x.Form, holds, printable(x.Signer), signedAt(x.SigningTime))
	}
	for _, w := range r.SignatureWarnings {
		fmt.Fprintf(c.out, "  %s %s\n", pick("nota sulla firma:", "note on the signature:"), printable(w))
	}
	for i := range r.SignatureFindings {
		if !slices.Contains(r.Findings, r.SignatureFindings[i]) {
			c.showFinding(&r.SignatureFindings[i], italian)
		}
	}
}

func signedAt(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return ", " + t.Format(time.RFC3339)
}

// showFinding prints what is wrong, where, with what, and how to mend it.
func (c *cli) showFinding(f *checkFinding, italian bool) {
	pick := func(it, en string) string {
		if italian {
			return it
		}
		return en
	}
	where := ""
	if f.Line > 0 {
		where += fmt.Sprintf(pick(" riga %d", " line %d"), f.Line)
	}
	if f.XPath != "" {
		where += " " + f.XPath
	}
	severity := f.Severity
	if italian {
		severity = map[string]string{"error": "errore", "warning": "avviso"}[severity]
	}
	fmt.Fprintf(c.out, "  %s %s%s\n    %s\n", severity, f.Code, printable(where), f.Message)
	if f.Actual != "" {
		fmt.Fprintf(c.out, "    %s %s\n", pick("trovato:", "found:"), printable(f.Actual))
	}
	if f.Expected != "" {
		fmt.Fprintf(c.out, "    %s %s\n", pick("atteso:", "expected:"), printable(f.Expected))
	}
	if f.Hint != "" {
		fmt.Fprintf(c.out, "    %s %s\n", pick("rimedio:", "mend:"), f.Hint)
	}
}

// printable keeps what a file says from commanding the terminal: control characters and marks that turn the
// direction of text become a question mark.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return '?'
		}
		return r
	}, s)
}
