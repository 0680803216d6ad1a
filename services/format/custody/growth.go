package custody

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"

	"ceralacca.dev/services/format/tlog"
)

// grownLine is a line of the list that says of each size at which an export shows the log that the one of the last checkpoint grew out of it.
type grownLine struct {
	Size  int64       `json:"size"`
	Proof []tlog.Hash `json:"proof"` // spec: RFC6962 §2.1.2
}

// mostGrown bounds a line: a proof has two hashes at most for each level of the tree.
const mostGrown = 16 << 10

// WriteGrowth writes the line of one size.
func WriteGrowth(to io.Writer, size int64, proof []tlog.Hash) error {
	raw, err := json.Marshal(grownLine{size, proof})
	if err == nil {
		_, err = to.Write(append(raw, '\n'))
	}
	return err
}

// Growth reads that list, the smallest size first. It comes when everything else was shown, and each line is judged and forgotten.
func (l *Ledger) Growth(name string, list io.Reader) {
	if l.last == nil {
		return // which is said
	}
	l.grove.proven = map[int64]bool{}
	lines, before := bufio.NewScanner(list), int64(0)
	lines.Buffer(nil, mostGrown)
	for n := 1; lines.Scan(); n++ {
		var g grownLine
		err := json.Unmarshal(lines.Bytes(), &g)
		if err == nil && (g.Size <= before || g.Size >= l.last.Size) {
			err = fmt.Errorf("the size %d does not follow %d, or is not below %d", g.Size, before, l.last.Size)
		}
		if err != nil {
			l.bad(LogUnproven, name, "line %d: %v", n, err)
			return
		}
		before = g.Size
		t := l.grove.trees[g.Size]
		if t == nil {
			continue
		}
		holds := tlog.CheckConsistency(g.Proof, t.Tree, l.last.Tree) == nil
		l.grove.proven[g.Size] = holds
		if !holds {
			l.bad(LogUnproven, t.name, "the log of %d entries, which it shows, is not the beginning of the one of %d by the proof in %s: two histories were signed, or the proof was changed; keep the export, it is evidence", g.Size, l.last.Size, name)
		}
	}
	if err := lines.Err(); err != nil {
		l.bad(LogUnproven, name, "%v", err)
	}
}

// unlinked says which trees are of another history than the last one, and of which nothing shows that they are of the same.
func (l *Ledger) unlinked(linked map[int64]bool) {
	said := map[int64]bool{}
	for _, c := range l.grove.broken {
		l.bad(LogForked, c.larger.name, "%s", c)
		said[c.smaller.Size] = true
	}
	var open []uint64
	sizes := l.grove.sizes()
	for _, size := range sizes {
		if size > l.last.Size {
			l.bad(LogRolledBack, l.grove.trees[size].name, "it shows the log at %d entries, and the last checkpoint that was handed over says %d: what was entered between them is kept back", size, l.last.Size)
			continue
		}
		if _, judged := l.grove.proven[size]; !linked[size] && !judged && !said[size] {
			open = append(open, uint64(size)) //nolint:gosec // it is above zero
		}
	}
	switch {
	case len(open) > 0:
		l.Unshown = append(l.Unshown, fmt.Sprintf("that the log of %s entries is one history with the one of %d in the last checkpoint: nothing here links them; exports of before had no proofs for it", ranges(open), l.last.Size))
	case len(sizes) > 1 && len(linked) == len(sizes) && len(l.grove.broken) == 0:
		l.holds("the log of %d entries grew out of what it was at %d other sizes that receipts and reports show", l.last.Size, len(sizes)-1)
	}
}
