package devenv

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// unitDir is where an administrator's units are, which come before those of packages.
const unitDir = "/etc/systemd/system"

// policyFile tells packages whether they may start services. spec: invoke-rc.d(8)
const policyFile = "/usr/sbin/policy-rc.d"

// services are those that missing packages would start.
func services(peers []Peer, missing []string) []string {
	var out []string
	for _, p := range peers {
		if p.Service != "" && slices.Contains(missing, p.Package) && !slices.Contains(out, p.Service) {
			out = append(out, p.Service)
		}
	}
	return out
}

// quietly runs an installation so that the named services are not started by it, nor at the next start of the
// machine: their units are masked, as systemctl mask does, and stay so until the administrator unmasks them.
// Whoever has such a unit already has decided, and nothing is changed.
func quietly(ctx context.Context, names []string, install func() error) error {
	if len(names) == 0 {
		return install()
	}
	if _, err := asRoot(ctx); err != nil {
		return install() // it says what is missing
	}
	var script strings.Builder
	script.WriteString("set -e\nmkdir -p " + unitDir + "\n")
	for _, name := range names {
		for _, kind := range []string{".service", ".socket"} {
			unit := filepath.Join(unitDir, name+kind)
			fmt.Fprintf(&script, "[ -e %[1]s ] || [ -L %[1]s ] || ln -s /dev/null %[1]s\n", unit)
		}
	}
	_, err := os.Stat(policyFile)
	ours := os.IsNotExist(err)
	if ours { // machines without systemd ask it
		fmt.Fprintf(&script, "printf '#!/bin/sh\\nexit 101\\n' > %[1]s\nchmod 755 %[1]s\n", policyFile)
	}
	err = AsRoot(ctx, script.String(), "sh")
	if err != nil {
		return err
	}
	err = install()
	if ours {
		removed := AsRoot(context.WithoutCancel(ctx), "", "rm", "-f", policyFile)
		if err == nil {
			err = removed
		}
	}
	return err
}
