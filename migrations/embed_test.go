package migrations_test

import (
	"io/fs"
	"regexp"
	"strings"
	"testing"

	"ceralacca.dev/migrations"
)

var fileName = regexp.MustCompile(`^[0-9]{4}_[a-z0-9_]+\.sql$`)

// The rules of every migration: numbered, forward only, and never waiting long for a lock.
func TestEveryMigrationObeysTheRules(t *testing.T) {
	seen, numbers := 0, map[string]string{}
	err := fs.WalkDir(migrations.FS, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		seen++
		if !fileName.MatchString(d.Name()) {
			t.Errorf("%s: want NNNN_verb_noun.sql", path)
		}
		number, _, _ := strings.Cut(path, "_")
		if other := numbers[number]; other != "" {
			t.Errorf("%s has the number of %s: give it the next one", path, other)
		}
		numbers[number] = path
		raw, err := fs.ReadFile(migrations.FS, path)
		if err != nil {
			return err
		}
		sql := string(raw)
		if !strings.Contains(sql, "-- +goose Up") {
			t.Errorf("%s: no `-- +goose Up`", path)
		}
		if strings.Contains(sql, "-- +goose Down") {
			t.Errorf("%s: migrations go forward only", path)
		}
		if !regexp.MustCompile(`(?i)SET (LOCAL )?lock_timeout`).MatchString(sql) {
			t.Errorf("%s: no `SET lock_timeout = '5s';`: a migration must not queue behind a long transaction, with all others behind it", path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen == 0 {
		t.Error("no migration is embedded")
	}
}

func TestServicesAreTheFoldersWithoutBus(t *testing.T) {
	for _, name := range migrations.Services() {
		if name == migrations.Bus {
			t.Error("bus is not a service")
		}
		files, err := fs.Glob(migrations.FS, name+"/*.sql")
		if err != nil || len(files) == 0 {
			t.Errorf("service %s has no migration: %v", name, err)
		}
	}
}
