package conservation

import (
	"archive/zip"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/conservation/internal/vault"
	"ceralacca.dev/services/internal/fault"
)

const inventoryPage = 500

// abandoned is the age at which an object without a row is nobody's who is still at work.
const abandoned = time.Hour

// inventory compares what each replica lists with the rows: an object that a row names and the replica does not list
// is damage, and repaired; one that no row knows is what an attempt left behind, or a row was lost.
func (s *Service) inventory(ctx context.Context, f *findings) error {
	f.What = "the names and sizes of all objects that the replicas list, against the rows"
	prefix := "tenants/"
	if f.Tenant != "" {
		prefix += f.Tenant + "/"
	}
	for _, x := range s.replicas.all {
		began, orphans := s.now(), 0
		for e, err := range s.strangers(ctx, x, prefix, func(o db.ObjectsByKeyRow, e *vault.Entry) error {
			f.Checked++
			return s.misplaced(ctx, f, x, o, e, began)
		}) {
			if err != nil {
				return err
			}
			orphans++
			err = s.orphan(ctx, f, x, e)
			if err != nil {
				return err
			}
		}
		f.note("the %s replica holds %d objects that no row knows", x.name, orphans)
	}
	return nil
}

// misplaced judges an object that a row names by what the replica lists under its key; nil: nothing.
func (s *Service) misplaced(ctx context.Context, f *findings, x *replica, o db.ObjectsByKeyRow, e *vault.Entry, began time.Time) error {
	if o.State != copyGood || !o.CreatedAt.Before(began) || (e != nil && e.Size == o.Size) {
		return nil
	}
	what := "it is not there"
	if e != nil {
		what = fmt.Sprintf("it has %d bytes, %d were stored", e.Size, o.Size)
	}
	f.bad(o.Key, "%s replica: %s", x.name, what)
	return s.replicas.damaged(ctx, objectOf(o), x.name, what)
}

func objectOf(o db.ObjectsByKeyRow) db.ArchiveObject {
	return db.ArchiveObject{ID: o.ID, TenantID: o.TenantID, Kind: o.Kind, Key: o.Key, Sha256: o.Sha256, Size: o.Size, RetainUntil: o.RetainUntil, CreatedAt: o.CreatedAt}
}

// strangers goes through the rows and the listing side by side, both in the order of keys. It yields what is listed
// and has no row; each row is told to known, with its entry when there is one.
func (s *Service) strangers(ctx context.Context, x *replica, prefix string, known func(db.ObjectsByKeyRow, *vault.Entry) error) func(func(vault.Entry, error) bool) {
	return func(yield func(vault.Entry, error) bool) {
		rows, after, more := []db.ObjectsByKeyRow(nil), "", true
		peek := func() (*db.ObjectsByKeyRow, error) {
			if len(rows) == 0 && more {
				err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
					var err error
					rows, err = db.New(tx).ObjectsByKey(ctx, db.ObjectsByKeyParams{Replica: x.name, After: after, Prefix: prefix, Page: inventoryPage})
					return err
				})
				if err != nil {
					return nil, err
				}
				more = len(rows) == inventoryPage
			}
			if len(rows) == 0 {
				return nil, nil //nolint:nilnil // the rows are at their end
			}
			return &rows[0], nil
		}
		pop := func() { after, rows = rows[0].Key, rows[1:] }
		for e, err := range x.List(ctx, prefix) {
			if err != nil {
				yield(e, err)
				return
			}
			for {
				row, err := peek()
				if err == nil && row != nil && row.Key <= e.Key {
					o := *row
					pop()
					if o.Key == e.Key {
						err = known(o, &e)
						if err == nil {
							break
						}
					} else {
						err = known(o, nil)
					}
					if err == nil {
						continue
					}
				}
				if err != nil {
					yield(e, err)
					return
				}
				if !yield(e, nil) {
					return
				}
				break
			}
		}
		for {
			row, err := peek()
			if err == nil && row != nil {
				o := *row
				pop()
				err = known(o, nil)
			}
			if err != nil {
				yield(vault.Entry{}, err)
			}
			if err != nil || row == nil {
				return
			}
		}
	}
}

// orphan says what an object is that no row knows. What a failed attempt left is harmless when its units came in
// by another; a unit of which there is no row at all is a loss, unless it was destroyed.
func (s *Service) orphan(ctx context.Context, f *findings, x *replica, e vault.Entry) error {
	p := strings.Split(e.Key, "/") // tenants/{tenant}/{kind}...
	condemned, err := s.condemned(ctx, f, x, e)
	if err != nil || condemned {
		return err
	}
	if len(p) < 4 || p[2] != "intake" {
		if len(p) >= 4 && p[2] == "packages" && strings.HasSuffix(e.Key, ".zip") {
			f.bad(e.Key, "%s replica: no row knows this package: its row was lost, and check restore makes it again", x.name)
			return nil
		}
		f.note("%s replica: %s has no row", x.name, e.Key)
		return nil
	}
	id, err := uuid.Parse(strings.TrimSuffix(path.Base(e.Key), ".zip"))
	if err != nil || s.now().Sub(time.Unix(id.Time().UnixTime())) < abandoned {
		f.note("%s replica: %s is young or has no name of ours", x.name, e.Key)
		return nil //nolint:nilerr // it is told
	}
	n, err := s.fates(ctx, x, e)
	switch {
	case err != nil && fault.Of(err).Kind == fault.KindUnavailable:
		return err
	case err != nil:
		f.bad(e.Key, "%s replica: no row knows it and it cannot be read: %v", x.name, fault.Of(err).Error())
	case n.destroyed > 0:
		done, err := s.condemnStray(ctx, f, e, n)
		if err != nil {
			return err
		}
		f.bad(e.Key, "%s replica: no row knows it, and %d of its %d units were destroyed by a disposal: %s", x.name, n.destroyed, n.units, n.remedy(x, done))
	case n.lost > 0:
		f.bad(e.Key, "%s replica: no row knows it, and %d of its %d units are in no other, or lack receipts that are in it: rows were lost, and check restore makes them again", x.name, n.lost, n.units)
	default:
		f.note("%s replica: %s is left of an attempt that was made again", x.name, e.Key)
	}
	return nil
}

// fates is what became of the units in an object without a row. Lost are those too whose row was backed up before receipts joined them
// that lie in it.
type fates struct {
	units, lost, destroyed int
	keys, standing         []string // of what was destroyed, and of the rest
	sum                    [32]byte // of the object
	unclear                bool     // something is in it that its list does not tell of, or that a unit's row has not
}

// remedy says what becomes of an object with destroyed documents in it. done: the eraser has it.
func (n fates) remedy(x *replica, done bool) string {
	switch {
	case done:
		return "the eraser destroys it"
	case n.lost > 0 && x.name == secondReplica:
		return fmt.Sprintf("check restore makes rows of the %d that are in no other object, and leaves it to the eraser", n.lost)
	case n.lost > 0:
		return fmt.Sprintf("remove it by hand, once it is known why %d of them are in no other object", n.lost)
	}
	if n.unclear {
		return "remove it by hand, once it is known what else is in it"
	}
	return "remove it by hand, once what stands of it has a good copy elsewhere"
}

// fates looks for the units of an intake object among the rows, under whatever id, and among what was destroyed.
func (s *Service) fates(ctx context.Context, x *replica, e vault.Entry) (n fates, err error) {
	units, err := s.unitsIn(ctx, x, e, &n)
	if err != nil {
		return n, err
	}
	keys, tenant := make([]string, len(units)), strings.Split(e.Key, "/")[1]
	for i, u := range units {
		keys[i] = u.Key
	}
	var known []string
	var places []db.PlacesOfKeysRow
	gone, held := map[string]time.Time{}, map[string][]string{}
	err = s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		known, err = db.New(tx).KeysKnown(ctx, db.KeysKnownParams{Tenant: tenant, Keys: keys})
		if err == nil {
			gone, err = destroyedKeys(ctx, tx, tenant, keys)
		}
		if err != nil {
			return err
		}
		places, err = db.New(tx).PlacesOfKeys(ctx, db.PlacesOfKeysParams{Tenant: tenant, Keys: keys})
		if err != nil {
			return err
		}
		rows, err := db.New(tx).WaitingDigests(ctx, db.WaitingDigestsParams{Tenant: tenant, Keys: keys})
		for _, r := range rows {
			held[r.UnitKey] = append(held[r.UnitKey], hex.EncodeToString(r.Sha256))
		}
		return err
	})
	if err != nil {
		return n, err
	}
	rows := map[string][]string{} // digests by keys
	for _, p := range places {
		rows[p.UnitKey] = append(rows[p.UnitKey], hex.EncodeToString(p.Sha256))
	}
	here, err := s.onlyHere(ctx, e, units, places)
	n.units = len(units)
	for _, u := range units {
		if wasDestroyed(gone, u) {
			n.keys = append(n.keys, u.Key)
		} else {
			n.standing = append(n.standing, u.Key)
			n.unclear = n.unclear || slices.ContainsFunc(u.Files, func(f recordFile) bool { return f.Role != "metadata" && !slices.Contains(rows[u.Key], f.SHA256) })
		}
		switch {
		case wasDestroyed(gone, u):
			n.destroyed++
		case !slices.Contains(known, u.Key), grewSince(held[u.Key], u), here[u.Key]:
			n.lost++
		}
	}
	return n, err
}

// onlyHere tells of which units files lie in an object without a row, by its list, and nowhere else: their rows lead to it, or to one that no
// replica holds, since they were backed up before the files were moved; or it has the metadata with which they were taken in first.
func (s *Service) onlyHere(ctx context.Context, e vault.Entry, units []record, places []db.PlacesOfKeysRow) (map[string]bool, error) {
	type file struct{ key, sum string }
	listed, here, there, of := map[file]bool{}, map[string]bool{}, map[string]bool{}, map[uuid.UUID]record{}
	for _, u := range units {
		of[u.Unit] = u
		for _, x := range u.Files {
			if x.Object != nil && path.Base(e.Key) == x.Object.String()+".zip" {
				listed[file{u.Key, x.SHA256}] = true
			}
		}
	}
	for _, p := range places {
		if u, ok := of[p.ID]; ok && p.Role == "metadata" && takenBefore(p.State, p.CreatedAt, p.Sha256, u) {
			here[p.UnitKey] = true
		}
		if here[p.UnitKey] || !listed[file{p.UnitKey, hex.EncodeToString(p.Sha256)}] {
			continue
		}
		held, asked := there[p.Key]
		if !asked && p.Key != "" {
			var err error
			held, err = s.replicas.hold(ctx, p.Key)
			if err != nil {
				return nil, err
			}
			there[p.Key] = held
		}
		here[p.UnitKey] = !held
	}
	return here, nil
}

// grewSince says whether a unit has all that its row has, and more. What has something else is not it, but another under its key.
func grewSince(held []string, u record) bool {
	var listed []string
	for _, f := range u.Files {
		if f.Role != "metadata" {
			listed = append(listed, f.SHA256)
		}
	}
	other := func(of []string) func(string) bool {
		return func(sum string) bool { return !slices.Contains(of, sum) }
	}
	return len(held) > 0 && slices.ContainsFunc(listed, other(held)) && !slices.ContainsFunc(held, other(listed))
}

// destroyedKeys gives of each of these keys whose document was destroyed when that was.
func destroyedKeys(ctx context.Context, tx pgx.Tx, tenant string, keys []string) (map[string]time.Time, error) {
	rows, err := db.New(tx).KeysDestroyed(ctx, db.KeysDestroyedParams{Tenant: tenant, Keys: keys})
	gone := map[string]time.Time{}
	for _, r := range rows {
		gone[r.UnitKey] = r.DestroyedAt
	}
	return gone, err
}

// wasDestroyed: what was taken in under a key after its document was destroyed is another document.
func wasDestroyed(gone map[string]time.Time, u record) bool {
	at, ok := gone[u.Key]
	return ok && !u.Taken.After(at)
}

// unitsIn reads the list of units of an object of which only name and size are known; n is told its digest, and whether the list tells of all.
func (s *Service) unitsIn(ctx context.Context, x *replica, e vault.Entry, n *fates) ([]record, error) {
	file, sum, err := s.borrow(ctx, x, e)
	if err != nil {
		return nil, err
	}
	defer drop(file)
	units, err := unitsListed(file, e.Size, strings.Split(e.Key, "/")[1])
	if err != nil {
		return nil, err
	}
	z, err := zip.NewReader(file, e.Size)
	if err != nil {
		return nil, fmt.Errorf("no readable ZIP: %w", err)
	}
	n.sum = sum
	for _, f := range z.File {
		of, _, _ := strings.Cut(f.Name, "/")
		id, err := uuid.Parse(of)
		_, listed := units[id]
		n.unclear = n.unclear || f.Name != intakeList && (err != nil || !listed)
	}
	return slices.Collect(maps.Values(units)), nil
}

// borrow reads an object whose digest nobody knows, and gives the digest that it has.
func (s *Service) borrow(ctx context.Context, x *replica, e vault.Entry) (*os.File, [32]byte, error) {
	// A vault verifies what it reads: the digest is learned from a first reading that it refuses.
	sum, err := vault.Digest(ctx, x, e)
	if err != nil {
		return nil, sum, err
	}
	body, err := x.Open(ctx, vault.Object{Key: e.Key, Size: e.Size, SHA256: sum})
	if err != nil {
		return nil, sum, err
	}
	file, _, err := spool(body)
	if closeErr := body.Close(); err == nil && closeErr != nil && !errors.Is(closeErr, io.EOF) {
		drop(file)
		return nil, sum, closeErr
	}
	return file, sum, err
}
