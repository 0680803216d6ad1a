// Package migrations owns the SQL that makes the schemas: one folder per service, forward only, and
// bus/, which is applied first in every schema. It refuses Go: what a migration does is readable SQL.
package migrations

import (
	"embed"
	"io/fs"
)

// FS holds every *.sql file, by folder. A new folder needs no edit here.
//
//go:embed */*.sql
var FS embed.FS

// Bus is the folder that belongs to every schema.
const Bus = "bus"

// Services names the folders that hold the schema of a service, in alphabetical order; bus is not
// among them.
func Services() []string {
	entries, err := fs.ReadDir(FS, ".")
	if err != nil {
		return nil // an embedded root is always readable
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && e.Name() != Bus {
			names = append(names, e.Name())
		}
	}
	return names
}
