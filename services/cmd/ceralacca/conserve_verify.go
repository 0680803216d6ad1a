package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/custody"
	"ceralacca.dev/services/format/pdd"
	"ceralacca.dev/services/format/tlog"
)

// Codes of a package that is wrong in itself, whatever the receipts say.
const (
	packageInvalid    = "PACKAGE_INVALID"
	packageUnreadable = "PACKAGE_UNREADABLE"
)

// noRoots says what good does not mean then.
const noRoots = "no roots were given: who signed and stamped is not judged"

func (c *cli) conserveVerifyCommand() *cobra.Command {
	var receipts, checkpoints []string
	var key, roots, record string
	var complete bool
	var quorum int
	cmd := verb("verify PACKAGE", "Verify a package (PdA or PdD), the folder of an export, a report of what was taken in charge (RdV), or a report of a destruction or a check, offline, by itself and by the receipts and checkpoints that were kept", args("PACKAGE"), func(_ context.Context, given []string) error {
		in := custody.Input{Complete: complete}
		if len(receipts)+len(checkpoints) > 0 && key == "" {
			return usage("--receipt and --checkpoint need --log-key, the key of the log; ceralacca conserve log -o FILE writes one")
		}
		if complete && len(receipts) == 0 {
			return usage("--complete needs a --receipt for each unit of the package")
		}
		if quorum != 0 && key == "" {
			return usage("--quorum needs --log-key, with the keys of the witnesses")
		}
		i := inspection{at: c.now()}
		if roots != "" {
			var err error
			i.roots, err = c.loadRoots(roots)
			if err != nil {
				return err
			}
			in.Stamps.Roots = i.roots
		}
		if info, err := os.Stat(given[0]); err == nil && info.IsDir() {
			return c.verifyExport(given[0], in, &i, key, quorum)
		}
		raw, err := c.readUpTo(given[0], largestPackage)
		if err != nil {
			return err
		}
		if content, isPDD, err := pdd.Open(raw); isPDD {
			if err != nil {
				return c.verdict(&custody.Report{Problems: []custody.Problem{{Code: pdd.Unreadable, What: filepath.Base(given[0]), Message: plain(err)}}}, filepath.Base(given[0]))
			}
			return c.verifyDistribution(content, filepath.Base(given[0]), in, key, quorum, len(receipts)+len(checkpoints) > 0)
		}
		if submission, p7m := openSubmission(raw); submission != nil {
			if len(receipts)+len(checkpoints) > 0 || complete {
				return usage("a report brings its own receipt: --receipt, --checkpoint and --complete are for preservation packages")
			}
			return c.verifySubmission(given[0], submission, p7m, in, &i, key, quorum)
		}
		// Read only where they are judged with what was given: a distribution and a submission have their own.
		obtained := func() error {
			if key == "" {
				return nil
			}
			var err error
			in.Policy, err = c.quorumPolicy(key, quorum)
			if err != nil {
				return err
			}
			return c.readEvidence(&in, receipts, checkpoints)
		}
		if kind, p7m := openReport(raw); p7m != nil {
			if complete || record != "" {
				return usage("--complete and --evidence are for preservation packages")
			}
			if err := obtained(); err != nil {
				return err
			}
			return c.verifyReport(filepath.Base(given[0]), kind, p7m, in, &i)
		}
		report := &custody.Report{}
		c.judgePackage(report, &i, filepath.Base(given[0]), raw, &in)
		if i.roots == nil {
			report.Holds = append(report.Holds, noRoots)
		}
		if record != "" {
			content, err := c.readUpTo(record, 16<<20)
			if err != nil {
				return err
			}
			c.judgeEvidence(report, &i, filepath.Base(record), raw, content)
		}
		if err := obtained(); err != nil {
			return err
		}
		if key != "" {
			more, err := custody.Verify(in)
			if err != nil {
				return err
			}
			report.Problems, report.Unshown = append(report.Problems, more.Problems...), append(report.Unshown, more.Unshown...)
			report.Holds = append(report.Holds, more.Holds...)
		}
		return c.verdict(report, filepath.Base(given[0]))
	})
	cmd.Long = cmd.Short + `.

By itself: every digest, the index, its signature and its time stamp; with --roots also their chain. With receipts: the
signature of the log, the proof that the leaf is in it, the order of the tenant's leaves, and that the package holds what
was taken in charge; the receipt of the package (conserve receipt --package) fixes each of its bytes. With checkpoints, in
the order in which they were obtained: that the log only grew; a log that was forked or rolled back is named so.

Of a report of a destruction or a check: its signature, and with its receipt (conserve scarto report --receipt, conserve report --receipt) that
the log states it.

Exit code 0: everything that was given holds. 1: something does not. 2: something could not be judged.`
	cmd.Flags().StringArrayVar(&receipts, "receipt", nil, "a receipt that was kept; may be given several times, or as a pattern such as 'receipts/*'")
	cmd.Flags().StringArrayVar(&checkpoints, "checkpoint", nil, "a checkpoint that was kept, the oldest first; may be given several times")
	cmd.Flags().StringVar(&key, "log-key", "", "key of the log, or a file with it")
	cmd.Flags().StringVar(&record, "evidence", "", "the package's evidence record (conserve evidence -o FILE), which keeps its time stamp alive; --roots then has the roots of all its authorities")
	cmd.Flags().IntVar(&quorum, "quorum", 0, "how many witnesses, whose keys --log-key has too, must have cosigned each checkpoint")
	cmd.Flags().StringVar(&roots, "roots", "", "certificates to trust, PEM")
	cmd.Flags().BoolVar(&complete, "complete", false, "every unit of the package must have a receipt")
	return cmd
}

// openReport gives a signed report of the archive, and what it is about; nil: it is none.
func openReport(raw []byte) (kind string, p7m []byte) {
	sd, err := cms.Parse(raw)
	if err != nil {
		return "", nil
	}
	kind = custody.ReportKind(sd.Content())
	if kind == "" {
		return "", nil
	}
	return kind, raw
}

// verifyReport verifies a signed report: its signature, at the time that the log was stamped where that is shown, and that the log states
// it.
func (c *cli) verifyReport(name, kind string, p7m []byte, in custody.Input, i *inspection) error {
	report, at := &custody.Report{}, i.at
	if len(in.Receipts) == 0 {
		report.Unshown = append(report.Unshown, "that the log states the report: give its proof with --receipt and --log-key; ceralacca conserve scarto report --receipt FILE writes one")
	} else {
		judged, stamped, err := custody.VerifyReport(in, sha256.Sum256(p7m))
		if err != nil {
			return err
		}
		report = judged
		if i.roots != nil && !stamped.IsZero() {
			at = stamped
		}
	}
	_, verdict, err := cades.Verify(p7m, cades.VerifyOptions{Roots: i.roots, At: at})
	if err == nil {
		err = verdict.Err()
	}
	if err != nil {
		report.Problems = append(report.Problems, custody.Problem{Code: custody.ReportInvalid, What: name, Message: err.Error()})
	} else {
		report.Holds = append(report.Holds, "the signature of the report "+kind)
	}
	if i.roots == nil {
		report.Holds = append(report.Holds, noRoots)
	}
	return c.verdict(report, name)
}

// quorumPolicy is whom to believe about the log, and how many witnesses must have cosigned what it states.
func (c *cli) quorumPolicy(key string, quorum int) (tlog.Policy, error) {
	p, err := c.logPolicy(key)
	if err == nil && (quorum < 0 || quorum > len(p.Witnesses)) {
		return p, usage("--quorum %d, and --log-key names %d witnesses: give the keys of all that must have cosigned", quorum, len(p.Witnesses))
	}
	p.Quorum = quorum
	return p, err
}

// verifyDistribution verifies a PdD, which brings its own receipts.
func (c *cli) verifyDistribution(content fs.FS, name string, in custody.Input, key string, quorum int, more bool) error {
	if more || in.Complete {
		return usage("a distribution package brings its own receipts: --receipt, --checkpoint and --complete are for preservation packages")
	}
	o := pdd.Options{Roots: in.Stamps.Roots}
	if key != "" {
		policy, err := c.quorumPolicy(key, quorum)
		if err != nil {
			return err
		}
		o.Policy = &policy
	}
	return c.verdict(pdd.Verify(content, o), name)
}

// judgePackage says what the package is worth by itself, and reads it for the comparison with receipts.
func (c *cli) judgePackage(report *custody.Report, i *inspection, name string, raw []byte, in *custody.Input) {
	problem := func(code, text string) {
		report.Problems = append(report.Problems, custody.Problem{Code: code, What: name, Message: text})
	}
	p, err := custody.ReadPackage(raw)
	if err != nil {
		problem(packageUnreadable, plain(err))
		return
	}
	in.Package = p
	b, err := openBag(raw)
	switch {
	case err != nil:
		problem(packageUnreadable, plain(err))
		return
	case b == nil:
		problem(packageInvalid, "there is no bagit.txt: it is no bag")
		return
	}
	d := &description{}
	i.archive(d, b)
	for _, text := range d.Problems {
		problem(packageInvalid, text)
	}
	for _, s := range d.Signatures {
		if !s.Holds {
			problem(packageInvalid, fmt.Sprintf("the signature of the index by %s does not hold: %v", s.Signer, s.Checks))
		}
	}
	if t := d.TimeStamp; t != nil && t.Holds != stampHolds {
		problem(packageInvalid, "the time stamp of the index does not hold: "+t.Holds)
	}
	if len(report.Problems) == 0 && d.Package != nil {
		report.Holds = append(append(report.Holds, "the package in itself: "+d.Package.Checked), d.Package.Revocation...)
	}
}

func (c *cli) readEvidence(in *custody.Input, receipts, checkpoints []string) error {
	for _, pattern := range receipts {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			files = []string{pattern} // its error names it
		}
		for _, file := range files {
			raw, err := c.readUpTo(file, 1<<20)
			if err != nil {
				return err
			}
			r, err := tlog.ParseReceipt(raw)
			if err != nil {
				return usage("--receipt: %s is none (%v): ceralacca conserve receipt writes them", file, err)
			}
			in.Receipts = append(in.Receipts, custody.Receipt{Name: filepath.Base(file), Receipt: r})
		}
	}
	for _, file := range checkpoints {
		seen, err := c.readSeen(file)
		if err != nil {
			return err
		}
		in.Checkpoints = append(in.Checkpoints, seen)
	}
	return nil
}

// verdict prints the report and gives the exit code.
func (c *cli) verdict(r *custody.Report, name string) error {
	word, code := "good", exitOK
	switch {
	case len(r.Problems) > 0:
		word, code = "not good", exitRefused
	case len(r.Unshown) > 0:
		word, code = "not judged in full", exitUsage
	}
	if c.format == formatJSON {
		printJSON(c.out, struct {
			Package string `json:"package,omitempty"`
			Verdict string `json:"verdict"`
			*custody.Report
		}{name, word, r})
	} else {
		for _, h := range r.Holds {
			fmt.Fprintln(c.out, "holds      ", h)
		}
		for _, u := range r.Unshown {
			fmt.Fprintln(c.out, "not shown  ", u)
		}
		for _, p := range r.Problems {
			fmt.Fprintf(c.out, "WRONG       %s %s: %s\n", p.Code, p.What, p.Message)
		}
		fmt.Fprintln(c.out, word)
	}
	if code != exitOK {
		return quietError(code)
	}
	return nil
}
