package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
)

func (c *cli) archive() (conservationv1.ConservationServiceClient, string, error) {
	tenant, err := c.tenantName()
	if err != nil {
		return nil, "", err
	}
	conn, err := c.dial()
	return conservationv1.NewConservationServiceClient(conn), tenant, err
}

func (c *cli) archiveCommand() *cobra.Command {
	list := c.lister(verb("ls", "List packages", args(), func(ctx context.Context, _ []string) error {
		api, tenant, err := c.archive()
		if err != nil {
			return err
		}
		page, err := collect(c, func(token string, size int32) (*conservationv1.ListPackagesResponse, error) {
			return api.ListPackages(ctx, &conservationv1.ListPackagesRequest{Parent: tenant, PageToken: token, PageSize: size})
		})
		if err != nil {
			return err
		}
		return c.print(page, func() {
			var rows [][]string
			for _, p := range page.GetPackages() {
				rows = append(rows, []string{last(p.GetName()), enum("PACKAGE_STATE_", p.GetState()), fmt.Sprint(p.GetFiscalYear()), p.GetClass(), fmt.Sprint(p.GetUnitCount()), when(p.GetSealTime()), p.GetLastError()})
			}
			c.table([]string{"PACKAGE", "STATE", "YEAR", "CLASS", "UNITS", "SEALED", "LAST ERROR"}, rows)
		})
	}))
	get := verb("get PACKAGE", "Show a package", args("PACKAGE"), func(ctx context.Context, given []string) error {
		name, err := c.within("packages", given[0])
		if err != nil {
			return err
		}
		api, _, err := c.archive()
		if err != nil {
			return err
		}
		p, err := api.GetPackage(ctx, &conservationv1.GetPackageRequest{Name: name})
		if err != nil {
			return err
		}
		return c.print(p, func() { c.showPackage(p) })
	})
	return group("archive", "Documents in custody and the packages that seal them", list, get, c.unitsCommand(), c.downloadCommand())
}

func (c *cli) unitsCommand() *cobra.Command {
	var pkg, invoice string
	cmd := c.lister(verb("units", "Documents in custody, newest first", args(), func(ctx context.Context, _ []string) error {
		api, tenant, err := c.archive()
		if err != nil {
			return err
		}
		if pkg != "" {
			pkg, err = c.within("packages", pkg)
			if err != nil {
				return err
			}
		}
		invoice, err = c.fullInvoiceName(ctx, invoice)
		if err != nil {
			return err
		}
		page, err := collect(c, func(token string, size int32) (*conservationv1.ListUnitsResponse, error) {
			return api.ListUnits(ctx, &conservationv1.ListUnitsRequest{Parent: tenant, Subject: invoice, Package: pkg, PageToken: token, PageSize: size})
		})
		if err != nil {
			return err
		}
		return c.print(page, func() {
			var rows [][]string
			for _, u := range page.GetUnits() {
				rows = append(rows, []string{last(u.GetName()), enum("UNIT_STATE_", u.GetState()), fmt.Sprint(u.GetFiscalYear()), u.GetClass(), last(u.GetSubject()), last(u.GetPackage()), u.GetProblem()})
			}
			c.table([]string{"UNIT", "STATE", "YEAR", "CLASS", "INVOICE", "PACKAGE", "PROBLEM"}, rows)
		})
	}))
	cmd.Flags().StringVar(&invoice, "invoice", "", "only of this invoice")
	cmd.Flags().StringVar(&pkg, "package", "", "only of this package")
	return cmd
}

func (c *cli) showPackage(p *conservationv1.Package) {
	c.fields("name", p.GetName(), "state", enum("PACKAGE_STATE_", p.GetState()), "fiscal year", p.GetFiscalYear(), "class", p.GetClass(),
		"units", p.GetUnitCount(), "created", when(p.GetCreateTime()), "stamped", when(p.GetStampTime()), "sealed", when(p.GetSealTime()),
		"archive sha256", fmt.Sprintf("%x", p.GetArchive().GetSha256()), "last error", p.GetLastError())
}

func (c *cli) downloadCommand() *cobra.Command {
	var output, file string
	cmd := verb("download PACKAGE", "Write one file of a package", args("PACKAGE"), func(ctx context.Context, given []string) error {
		name, err := c.within("packages", given[0])
		if err != nil {
			return err
		}
		which := conservationv1.PackageFile_value["PACKAGE_FILE_"+strings.ToUpper(file)]
		if which == 0 {
			return usage("--file is archive, index, signed_index or time_stamp, not %q", file)
		}
		api, _, err := c.archive()
		if err != nil {
			return err
		}
		stream, err := api.DownloadPackageFile(ctx, &conservationv1.DownloadPackageFileRequest{Name: name, File: conservationv1.PackageFile(which)})
		if err != nil {
			return err
		}
		return c.download(output, func() ([]byte, error) { m, err := stream.Recv(); return m.GetChunk(), err })
	})
	cmd.Flags().StringVarP(&output, "output", "o", "", "file to write; standard output when empty")
	cmd.Flags().StringVar(&file, "file", "archive", "archive, index, signed_index or time_stamp")
	return cmd
}
