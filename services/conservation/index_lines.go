package conservation

import (
	"context"
	"fmt"
	"iter"

	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/format/sincro"
	"ceralacca.dev/services/internal/fault"
)

// indexPage is how many members one statement reads for the index.
const indexPage = 1000

// indexed is a page of members as far as the index tells of them, or why it could not be read.
type indexed struct {
	members []member
	err     error
}

// groups gives the members of a package as the index has them. It begins to read at once, and while a page is written the next
// one is read: the database and the writer work side by side. It ends early with ctx.
func (s *Service) groups(ctx context.Context, p db.Package) iter.Seq2[sincro.FileGroup, error] {
	pages := make(chan indexed, 1)
	go func() {
		defer close(pages)
		for after := int32(0); after < p.UnitCount; after += indexPage {
			members, err := s.indexLines(ctx, p, after, min(after+indexPage, p.UnitCount))
			select {
			case pages <- indexed{members, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return func(yield func(sincro.FileGroup, error) bool) {
		count := int32(0)
		for page := range pages {
			if page.err != nil {
				yield(sincro.FileGroup{}, page.err)
				return
			}
			for _, m := range page.members {
				count++
				if !yield(m.group(), nil) {
					return
				}
			}
		}
		if err := ctx.Err(); err != nil {
			yield(sincro.FileGroup{}, err)
			return
		}
		if count != p.UnitCount {
			yield(sincro.FileGroup{}, fault.Internal("UNITS_MOVED", "package %s was closed with %d units and has %d", p.ID, p.UnitCount, count))
		}
	}
}

// indexLines reads the members at positions after+1 to last.
func (s *Service) indexLines(ctx context.Context, p db.Package, after, last int32) ([]member, error) {
	var rows []db.IndexLinesRow
	err := s.db.Tx(ctx, p.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		rows, err = db.New(tx).IndexLines(ctx, db.IndexLinesParams{PackageID: p.ID, After: after, Last: last})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("conservation: index lines of %s: %w", p.ID, err)
	}
	members := make([]member, 0, last-after)
	for i := range rows {
		r := &rows[i]
		if n := len(members); n == 0 || members[n-1].unit.ID != r.ID {
			members = append(members, member{unit: db.Unit{ID: r.ID, Position: &r.Position, Class: r.Class, Integrates: r.Integrates}})
		}
		m := &members[len(members)-1]
		m.files = append(m.files, db.UnitFile{Ordinal: r.Ordinal, Role: r.Role, ReceiptType: r.ReceiptType, FileName: r.FileName, Sha256: r.Sha256})
	}
	return members, nil
}
