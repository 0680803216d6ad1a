package main

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
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
	var year int32
	var class string
	closing := verb("close", "Close a package over the units that wait, and seal it", args(), func(ctx context.Context, _ []string) error {
		api, tenant, err := c.archive()
		if err != nil {
			return err
		}
		p, err := api.ClosePackage(ctx, &conservationv1.ClosePackageRequest{Parent: tenant, FiscalYear: year, Class: class, RequestId: uuid.NewString()})
		if err != nil {
			return err
		}
		return c.print(p, func() { c.showPackage(p) })
	})
	closing.Flags().Int32Var(&year, "year", 0, "fiscal year of the package")
	closing.Flags().StringVar(&class, "class", "", "class of documents; FISC when empty")
	list := verb("ls", "List packages", args(), func(ctx context.Context, _ []string) error {
		api, tenant, err := c.archive()
		if err != nil {
			return err
		}
		page, err := api.ListPackages(ctx, &conservationv1.ListPackagesRequest{Parent: tenant, PageSize: 1000})
		if err != nil {
			return err
		}
		return c.print(page, func() {
			var rows [][]string
			for _, p := range page.GetPackages() {
				rows = append(rows, []string{path.Base(p.GetName()), enum("PACKAGE_STATE_", p.GetState()), fmt.Sprint(p.GetFiscalYear()), p.GetClass(), fmt.Sprint(p.GetUnitCount()), when(p.GetSealTime()), p.GetLastError()})
			}
			c.table([]string{"PACKAGE", "STATE", "YEAR", "CLASS", "UNITS", "SEALED", "LAST ERROR"}, rows)
		})
	})
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
	return group("archive", "Conservation", closing, list, get, c.unitsCommand(), c.downloadCommand())
}

func (c *cli) unitsCommand() *cobra.Command {
	var pkg string
	cmd := verb("units", "Documents in custody, newest first", args(), func(ctx context.Context, _ []string) error {
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
		page, err := api.ListUnits(ctx, &conservationv1.ListUnitsRequest{Parent: tenant, Package: pkg, PageSize: 200})
		if err != nil {
			return err
		}
		return c.print(page, func() {
			var rows [][]string
			for _, u := range page.GetUnits() {
				rows = append(rows, []string{path.Base(u.GetName()), enum("UNIT_STATE_", u.GetState()), fmt.Sprint(u.GetFiscalYear()), u.GetClass(), path.Base(u.GetSubject()), path.Base(u.GetPackage()), u.GetProblem()})
			}
			c.table([]string{"UNIT", "STATE", "YEAR", "CLASS", "INVOICE", "PACKAGE", "PROBLEM"}, rows)
		})
	})
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
		// The first chunk comes before the file is made: a refusal leaves no empty file behind.
		part, err := stream.Recv()
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		out := c.out
		if output != "" {
			f, err := os.Create(output)
			if err != nil {
				return usage("%v", err)
			}
			defer f.Close()
			out = f
		}
		for err == nil {
			_, err = out.Write(part.GetChunk())
			if err == nil {
				part, err = stream.Recv()
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		return fmt.Errorf("the file was not written whole: %w", err)
	})
	cmd.Flags().StringVarP(&output, "output", "o", "", "file to write; standard output when empty")
	cmd.Flags().StringVar(&file, "file", "archive", "archive, index, signed_index or time_stamp")
	return cmd
}

func (c *cli) sign() (signv1.SignServiceClient, error) {
	conn, err := c.dial()
	return signv1.NewSignServiceClient(conn), err
}

func (c *cli) credentialCommand() *cobra.Command {
	var company, kind, key, common string
	create := verb("create", "Make a key in Vault and its certificate request", args(), func(ctx context.Context, _ []string) error {
		parent, err := c.within("companies", company)
		if err != nil {
			return err
		}
		keyType, ok := map[string]signv1.KeyType{"p256": signv1.KeyType_KEY_TYPE_EC_P256, "rsa3072": signv1.KeyType_KEY_TYPE_RSA_3072}[key]
		if !ok {
			return usage("--key is p256 or rsa3072, not %q", key)
		}
		kinds, ok := map[string]signv1.CredentialKind{"automatic": signv1.CredentialKind_CREDENTIAL_KIND_AUTOMATIC, "role": signv1.CredentialKind_CREDENTIAL_KIND_ROLE}[kind]
		if !ok {
			return usage("--kind is automatic or role, not %q", kind)
		}
		api, err := c.sign()
		if err != nil {
			return err
		}
		made, err := api.CreateCredential(ctx, &signv1.CreateCredentialRequest{
			Parent: parent, RequestId: uuid.NewString(), Credential: &signv1.Credential{Kind: kinds, KeyType: keyType, CommonName: common},
		})
		if err != nil {
			return err
		}
		return c.print(made, func() {
			c.fields("name", made.GetName(), "state", enum("CREDENTIAL_STATE_", made.GetState()), "level", enum("SIGNATURE_LEVEL_", made.GetLevel()))
			fmt.Fprint(c.out, made.GetCsrPem())
		})
	})
	create.Flags().StringVar(&company, "company", os.Getenv("CERALACCA_COMPANY"), "company that signs")
	create.Flags().StringVar(&kind, "kind", "automatic", "automatic (a company's invoices) or role (the platform's conservation)")
	create.Flags().StringVar(&key, "key", "p256", "p256 or rsa3072")
	create.Flags().StringVar(&common, "common-name", "", "name in the certificate")
	imported := verb("import CREDENTIAL FILE", "Import the certificate of a credential, PEM, leaf first", args("CREDENTIAL", "FILE"), func(ctx context.Context, given []string) error {
		raw, err := c.read(given[1])
		if err != nil {
			return err
		}
		if block, _ := pem.Decode(raw); block == nil {
			return usage("%s holds no PEM certificate", given[1])
		}
		name, err := c.within("companies/"+company+"/credentials", given[0])
		if err != nil {
			return err
		}
		api, err := c.sign()
		if err != nil {
			return err
		}
		done, err := api.ImportCertificate(ctx, &signv1.ImportCertificateRequest{Name: name, CertificatePem: string(raw)})
		if err != nil {
			return err
		}
		return c.print(done, func() {
			c.fields("name", done.GetName(), "state", enum("CREDENTIAL_STATE_", done.GetState()), "expires", when(done.GetExpireTime()))
		})
	})
	imported.Flags().StringVar(&company, "company", os.Getenv("CERALACCA_COMPANY"), "company of a short name")
	list := verb("ls", "List credentials", args(), func(ctx context.Context, _ []string) error {
		parent, err := c.within("companies", "-")
		if err != nil {
			return err
		}
		api, err := c.sign()
		if err != nil {
			return err
		}
		page, err := api.ListCredentials(ctx, &signv1.ListCredentialsRequest{Parent: parent, PageSize: 1000})
		if err != nil {
			return err
		}
		return c.print(page, func() {
			var rows [][]string
			for _, k := range page.GetCredentials() {
				rows = append(rows, []string{k.GetName(), enum("CREDENTIAL_STATE_", k.GetState()), enum("KEY_TYPE_", k.GetKeyType()), enum("SIGNATURE_LEVEL_", k.GetLevel()), k.GetCommonName(), when(k.GetExpireTime())})
			}
			c.table([]string{"CREDENTIAL", "STATE", "KEY", "LEVEL", "NAME", "EXPIRES"}, rows)
		})
	})
	return group("credential", "Signing credentials", create, imported, list)
}
