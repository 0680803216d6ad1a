package main

import (
	"archive/zip"
	"context"
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
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/fatturapa"
	"ceralacca.dev/services/format/sdi"
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
}

type checkFinding struct {
	Code     string `json:"code"`
	Severity string `json:"severity"`
	Message  string `json:"message"`
	Hint     string `json:"hint,omitempty"`
	XPath    string `json:"xpath,omitempty"`
	Line     int    `json:"line,omitempty"`
	Actual   string `json:"actual,omitempty"`
	Expected string `json:"expected,omitempty"`
}

func (c *cli) checkCommand() *cobra.Command {
	var at, lang string
	var names bool
	cmd := verb("check FILE|DIR|ZIP...", "Check invoices offline by the rules of SdI", args("FILE|DIR|ZIP..."), func(ctx context.Context, given []string) error {
		if lang != "it" && lang != "en" {
			return usage("--lang is it or en, not %q", lang)
		}
		day, err := parseTime("at", at)
		if err != nil {
			return err
		}
		k := &checker{in: c.in, lang: lang, names: names, at: c.now()}
		if day != nil {
			k.at = day.AsTime()
		}
		return c.checkAll(ctx, k, given)
	})
	cmd.Long = cmd.Short + `.

No server and no database are needed. Invoices are read from XML, signed files (.p7m, whose signature is not judged:
see ceralacca inspect), ZIP archives and folders with all that is below them; - is standard input. With --format json
each file is one JSON object on a line of its own. Controls that need the registers of SdI are not made.

Exit code 0: all are valid; 1: at least one has an error; 2: at least one could not be judged, or there was none.`
	cmd.Flags().StringVar(&at, "at", "", "day of sending, such as 2026-05-15: its rules are applied; today when empty")
	cmd.Flags().StringVar(&lang, "lang", "en", "language of the messages: it or en")
	cmd.Flags().BoolVar(&names, "names", false, "judge the file names too, as SdI does when it receives them")
	return cmd
}

// checker judges files, several at a time, and gives the outcomes in order.
type checker struct {
	in    io.Reader
	lang  string
	names bool
	at    time.Time

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
		k.known(ctx, checked{File: name, Error: err.Error()})
	case info.IsDir():
		k.folder(ctx, name)
	case !info.Mode().IsRegular():
		k.known(ctx, checked{File: name, Error: "this is neither a file nor a folder; standard input is -"})
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
			k.known(ctx, checked{File: name, Error: err.Error()})
			if entry != nil && entry.IsDir() {
				return fs.SkipDir
			}
		case entry.IsDir():
		case !entry.Type().IsRegular():
			k.known(ctx, checked{File: name, Skipped: "a link or device"})
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
		k.known(ctx, checked{File: name, Error: err.Error()})
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
		k.known(ctx, checked{File: name, Skipped: notByName})
		return
	}
	k.emit(ctx, &checkUnit{name: name, inside: inside, open: func() (io.ReadCloser, error) { return os.Open(name) }})
}

const notByName = "neither .xml nor .p7m"

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
		k.known(ctx, checked{File: name, Error: "the archive cannot be read: " + err.Error()})
		return
	}
	if len(z.File) == 0 {
		k.known(ctx, checked{File: name, Error: "the archive is empty"})
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
			k.known(ctx, checked{File: at, Error: "encrypted: SdI and this tool read plain archives only"})
		case strings.EqualFold(path.Ext(m.Name), ".zip"):
			k.known(ctx, checked{File: at, Error: "an archive inside an archive: SdI takes none; unpack it and check it apart"})
		case !endsLikeInvoice(m.Name):
			k.known(ctx, checked{File: at, Skipped: notByName})
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
	return zip.NewReader(f, info.Size())
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

// judge reads and checks one file.
func (k *checker) judge(u *checkUnit) checked {
	r := checked{File: u.name}
	f, err := u.open()
	if err != nil {
		r.Error = err.Error()
		return r
	}
	raw, err := io.ReadAll(io.LimitReader(f, largestFile+1))
	_ = f.Close() // nothing was written
	if err != nil {
		r.Error = err.Error()
		return r
	}
	if len(raw) > largestFile {
		r.refuse(k.lang, "00003", tooLarge, fmt.Sprintf("> %d bytes", largestFile), 0)
		return r
	}
	content, err := unwrap(raw)
	if err != nil {
		r.refuse(k.lang, "00106", brokenEnvelope, err.Error(), 0)
		return r
	}
	file, err := fatturapa.Parse(content)
	if err != nil {
		k.unread(&r, u, content, err)
		return r
	}
	o := fatturapa.Options{At: k.at}
	if k.names && u.name != "-" {
		o.FileName = path.Base(filepath.ToSlash(u.name))
	}
	report := fatturapa.Check(file, o)
	valid := report.Valid()
	r.Valid, r.Format, r.Documents, r.Rules, r.Omitted = &valid, file.Formato(), len(file.Bodies), report.RulePack, report.Omitted
	for _, x := range report.Findings {
		r.Findings = append(r.Findings, checkFinding{
			Code: x.Code, Severity: string(x.Severity), Message: x.Message.In(k.lang), Hint: x.Hint.In(k.lang),
			XPath: x.XPath, Line: x.Line, Actual: x.Actual, Expected: x.Expected,
		})
	}
	return r
}

// unread tells a message of SdI that lies beside invoices from an invoice that cannot be read.
func (k *checker) unread(r *checked, u *checkUnit, content []byte, err error) {
	var parse *fatturapa.ParseError
	if !errors.As(err, &parse) {
		r.Error = err.Error()
		return
	}
	if u.inside && (parse.Code == fatturapa.ErrRoot || parse.Code == fatturapa.ErrNamespace) {
		if m, err := sdi.ParseMessage(path.Base(filepath.ToSlash(u.name)), content); err == nil {
			r.Skipped = "a message of SdI (" + string(m.Type()) + ")"
			return
		}
	}
	code, text := "00200", unreadable
	switch parse.Code {
	case fatturapa.ErrTooLarge:
		code, text = "00003", tooLarge
	case fatturapa.ErrEmpty:
		code, text = "00106", emptyFile
	}
	text.hint.EN = parse.Hint
	r.refuse(k.lang, code, text, parse.Msg, parse.Line)
}

// unwrap takes the invoice out of its signature envelopes, if it is in one.
func unwrap(raw []byte) ([]byte, error) {
	if !cms.Looks(raw) {
		return raw, nil
	}
	content, layers, err := cms.Open(raw)
	if err != nil {
		return nil, err
	}
	if len(layers) > 0 && layers[len(layers)-1].Detached {
		return nil, errors.New("a detached signature: the invoice is not in the file")
	}
	return content, nil
}

// refusal is a finding about a file that could not be read as an invoice.
type refusal struct{ message, hint fatturapa.Text }

var (
	unreadable = refusal{fatturapa.Text{IT: "Il file non si legge come fattura", EN: "The file cannot be read as an invoice"},
		fatturapa.Text{IT: "Correggere il file nel punto indicato, o esportarlo di nuovo", EN: "Mend the file at this place, or export it again"}}
	emptyFile = refusal{fatturapa.Text{IT: "Il file è vuoto", EN: "The file is empty"},
		fatturapa.Text{IT: "Inviare il file della fattura", EN: "Send the invoice file itself"}}
	tooLarge = refusal{fatturapa.Text{IT: "Il file supera la dimensione massima ammessa", EN: "The file is larger than allowed"},
		fatturapa.Text{IT: "Ridurre gli allegati o dividere il lotto", EN: "Shrink the attachments or split the lot"}}
	brokenEnvelope = refusal{fatturapa.Text{IT: "La busta di firma non si legge", EN: "The signature envelope cannot be read"},
		fatturapa.Text{IT: "Firmare di nuovo il file, o trasferirlo in modo binario", EN: "Sign the file again, or transfer it in binary mode"}}
)

// refuse makes the outcome of a file that SdI would refuse unread.
func (r *checked) refuse(lang, code string, text refusal, actual string, line int) {
	invalid := false
	r.Valid = &invalid
	r.Findings = append(r.Findings, checkFinding{
		Code: code, Severity: string(fatturapa.SeverityError), Message: text.message.In(lang), Hint: text.hint.In(lang), Actual: actual, Line: line,
	})
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
	for _, f := range r.Findings {
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
	if r.Omitted > 0 {
		fmt.Fprintf(c.out, pick("  e altri %d\n", "  and %d more\n"), r.Omitted)
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
