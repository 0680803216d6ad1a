package conservation

import (
	"archive/zip"
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/google/uuid"

	"ceralacca.dev/services/conservation/internal/db"
)

// records reads units.jsonl of an object, unit by unit. Not listed: it has none, as packages of the first layout.
func records(o db.ArchiveObject, file *os.File, tenant string, each func(record) error) (listed bool, err error) {
	z, err := zip.NewReader(file, o.Size)
	if err != nil {
		return false, fmt.Errorf("no readable ZIP: %w", err)
	}
	for _, e := range z.File {
		if e.Name != intakeList && !strings.HasSuffix(e.Name, "/"+intakeList) {
			continue
		}
		body, err := e.Open()
		if err != nil {
			return true, err
		}
		defer body.Close()
		lines := json.NewDecoder(bufio.NewReader(body))
		for {
			var u record
			err = lines.Decode(&u)
			if errors.Is(err, io.EOF) {
				return true, nil
			}
			if err != nil {
				return true, fmt.Errorf("%s: %w", intakeList, err)
			}
			if u.Tenant != tenant {
				return true, fmt.Errorf("%s: unit %s is of another tenant", intakeList, u.Unit)
			}
			err = each(u)
			if err != nil {
				return true, err
			}
		}
	}
	return false, nil
}

// recordPages is records with a page of units at a time, in their order.
func recordPages(o db.ArchiveObject, file *os.File, tenant string, each func([]record) error) (listed bool, err error) {
	var page []record
	listed, err = records(o, file, tenant, func(u record) error {
		page = append(page, u)
		if len(page) < searchPage {
			return nil
		}
		err := each(page)
		page = nil
		return err
	})
	if err == nil && len(page) > 0 {
		err = each(page)
	}
	return listed, err
}

// unitsListed gives the units that one object of what was taken in lists, by their ids.
func unitsListed(file *os.File, size int64, tenant string) (map[uuid.UUID]record, error) {
	units := map[uuid.UUID]record{}
	listed, err := records(db.ArchiveObject{Size: size}, file, tenant, func(u record) error {
		units[u.Unit] = u
		return nil
	})
	if err == nil && !listed {
		err = errors.New("it has no " + intakeList)
	}
	return units, err
}

// packageOf reads of which package an object is the archive.
func packageOf(o db.ArchiveObject) (uuid.UUID, error) {
	id, err := uuid.Parse(strings.TrimSuffix(path.Base(o.Key), ".zip"))
	if err != nil {
		return id, errors.New("it has no name of ours")
	}
	return id, nil
}
