package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
)

func (c *cli) authorizations() (signv1.AuthorizationServiceClient, error) {
	conn, err := c.dial()
	return signv1.NewAuthorizationServiceClient(conn), err
}

// personal are the flags of the commands that name a credential and ask for secrets.
type personal struct {
	secrets
	company, credential string
}

func (p *personal) flags(cmd *cobra.Command) *cobra.Command {
	cmd.Long = cmd.Short + "." + secretHelp
	f := cmd.Flags()
	f.StringVar(&p.credential, "credential", os.Getenv("CERALACCA_CREDENTIAL"), "credential of kind person (CERALACCA_CREDENTIAL)")
	f.StringVar(&p.company, "company", os.Getenv("CERALACCA_COMPANY"), "company of a short name (CERALACCA_COMPANY)")
	f.StringVar(&p.pinFile, "pin-file", "", "file with the PIN")
	f.StringVar(&p.otpFile, "otp-file", "", "file with the one-time password")
	return cmd
}

func (p *personal) name() (string, error) {
	err := need("credential", p.credential)
	if err != nil {
		return "", err
	}
	return p.c.credentialName(p.company, p.credential)
}

func (p *personal) device(given string) (string, error) {
	if strings.Contains(given, "/") {
		return given, nil
	}
	name, err := p.name()
	return name + "/otpDevices/" + given, err
}

// both asks for PIN and password.
func (p *personal) both(ctx context.Context, whose string) (pin, otp string, err error) {
	pin, err = p.pin(ctx, "PIN")
	if err != nil {
		return "", "", err
	}
	otp, err = p.otp(ctx, "One-time password"+whose)
	return pin, otp, err
}

func (c *cli) otpCommand() *cobra.Command {
	return group("otp", "PIN and devices with which a person authorizes signatures", c.otpPIN(), c.otpEnrol(), c.otpSend(), c.otpConfirm(), c.otpList(), c.otpRemove(),
		c.otpResync(), c.otpContact(), c.otpAppCommand(), c.otpTokenCommand())
}

func (c *cli) otpPIN() *cobra.Command {
	p := &personal{secrets: secrets{c: c}}
	var holder, file string
	cmd := p.flags(verb("pin", "Set the first PIN of a credential (with --holder), or change it", args(), func(ctx context.Context, _ []string) error {
		name, err := p.name()
		if err != nil {
			return err
		}
		api, err := c.authorizations()
		if err != nil {
			return err
		}
		req := &signv1.SetPinRequest{Name: name}
		if holder != "" {
			req.Holder, err = c.within("users", holder)
		} else {
			req.Pin, req.Otp, err = p.both(ctx, "")
		}
		if err != nil {
			return err
		}
		req.NewPin, err = p.newPIN(ctx, file)
		if err != nil {
			return err
		}
		set, err := api.SetPin(ctx, req)
		if err != nil {
			return err
		}
		return c.print(set, func() { c.fields("credential", name, "holder", set.GetHolder(), "PIN set", when(set.GetSetTime())) })
	}))
	cmd.Flags().StringVar(&holder, "holder", "", "the first time: whose credential it is, an id of yours (no name, no codice fiscale)")
	cmd.Flags().StringVar(&file, "new-pin-file", "", "file with the new PIN")
	return cmd
}

func (c *cli) otpEnrol() *cobra.Command {
	p := &personal{secrets: secrets{c: c}}
	var display, replace, qr, sms, email, by, appKey, token string
	cmd := p.flags(verb("enrol", "Enrol an app that shows one-time passwords (its secret is shown this once), a telephone or mailbox that gets them, an app that approves, or a hardware token", args(), func(ctx context.Context, _ []string) error {
		name, err := p.name()
		if err != nil {
			return err
		}
		api, err := c.authorizations()
		if err != nil {
			return err
		}
		if by != "" && replace != "" {
			return usage("--replace asks for a password of the old device, --by for one of another device: give one of both")
		}
		device, err := c.wantedDevice(display, sms, email, appKey, token)
		if err != nil {
			return err
		}
		made, err := p.enrol(ctx, api, name, replace, by, device)
		if err != nil {
			return err
		}
		if made.GetOtpauthUri() == "" && device.GetAddress() == "" {
			return c.print(made, func() {
				c.showDevice(made.GetOtpDevice())
				fmt.Fprintf(c.errOut, "Then: ceralacca otp confirm %s\n", made.GetOtpDevice().GetName())
			})
		}
		if device.GetAddress() != "" {
			return c.print(made, func() {
				c.showDevice(made.GetOtpDevice())
				fmt.Fprintf(c.errOut, "A password is on its way, then: ceralacca otp confirm %s (another: ceralacca otp send)\n", made.GetOtpDevice().GetName())
			})
		}
		if qr != "" {
			err = replaceWith(qr, private, made.GetQrPng())
			if err != nil { // the secret is shown below: the enrolment is not lost
				fmt.Fprintf(c.errOut, "--qr: %s\n", inWords(err))
			}
		}
		return c.print(made, func() {
			c.fields("name", made.GetOtpDevice().GetName(), "state", enum("OTP_DEVICE_STATE_", made.GetOtpDevice().GetState()), "address", made.GetOtpauthUri())
			fmt.Fprintf(c.errOut, "Add the address to the app, then: ceralacca otp confirm %s\n", made.GetOtpDevice().GetName())
		})
	}))
	cmd.Flags().StringVar(&display, "name", "app", "how the holder calls it; it is in the audit record")
	cmd.Flags().StringVar(&replace, "replace", "", "the active device, whose place it takes; a password of it is asked for")
	cmd.Flags().StringVar(&sms, "sms", "", "telephone number that gets passwords as text messages, such as +393331234567")
	cmd.Flags().StringVar(&email, "email", "", "address that gets passwords as e-mails")
	cmd.Flags().StringVar(&by, "by", "", "the device is lost: another active device of the same holder, whose password is asked for; the new one may be used only after a time of cooling")
	cmd.Flags().StringVar(&appKey, "app-key", "", "file with the key of an app that approves (ceralacca otp app key)")
	cmd.Flags().StringVar(&token, "token", "", "serial of a hardware token of the tenant's stock")
	cmd.Flags().StringVar(&qr, "qr", "", "file to write the QR code to, PNG; delete it afterwards")
	return cmd
}

// wantedDevice is the device that the flags describe.
func (c *cli) wantedDevice(display, sms, email, appKey, token string) (*signv1.OtpDevice, error) {
	device := &signv1.OtpDevice{Type: signv1.OtpDeviceType_OTP_DEVICE_TYPE_TOTP, DisplayName: display}
	kinds := 0
	for _, flag := range []string{sms, email, appKey, token} {
		if flag != "" {
			kinds++
		}
	}
	switch {
	case kinds > 1:
		return nil, usage("--sms, --email, --app-key and --token are different devices: enrol one")
	case appKey != "":
		key, err := c.appKey(appKey)
		if err != nil {
			return nil, err
		}
		device.Type = signv1.OtpDeviceType_OTP_DEVICE_TYPE_PUSH
		device.PublicKey, err = x509.MarshalPKIXPublicKey(key.Public())
		return device, err
	case token != "":
		device.Type, device.TokenSerial = signv1.OtpDeviceType_OTP_DEVICE_TYPE_TOKEN, token
	case sms != "":
		device.Type, device.Address = signv1.OtpDeviceType_OTP_DEVICE_TYPE_SMS, sms
	case email != "":
		device.Type, device.Address = signv1.OtpDeviceType_OTP_DEVICE_TYPE_EMAIL, email
	}
	return device, nil
}

func (p *personal) enrol(ctx context.Context, api signv1.AuthorizationServiceClient, name, replace, by string, device *signv1.OtpDevice) (*signv1.EnrolledOtpDevice, error) {
	if by != "" {
		devices, err := p.c.deviceAPI()
		if err != nil {
			return nil, err
		}
		pin, otp, err := p.both(ctx, " of the other device")
		if err != nil {
			return nil, err
		}
		return devices.RecoverOtpDevice(ctx, &signv1.RecoverOtpDeviceRequest{Parent: name, OtpDevice: device, Pin: pin, OtherDevice: by, Otp: otp})
	}
	if replace == "" {
		pin, err := p.pin(ctx, "PIN")
		if err != nil {
			return nil, err
		}
		return api.CreateOtpDevice(ctx, &signv1.CreateOtpDeviceRequest{Parent: name, OtpDevice: device, Pin: pin})
	}
	old, err := p.device(replace)
	if err != nil {
		return nil, err
	}
	pin, otp, err := p.both(ctx, " of the old device")
	if err != nil {
		return nil, err
	}
	return api.ReplaceOtpDevice(ctx, &signv1.ReplaceOtpDeviceRequest{Name: old, OtpDevice: device, Pin: pin, Otp: otp})
}

func (c *cli) showDevice(d *signv1.OtpDevice) {
	c.fields("name", d.GetName(), "called", d.GetDisplayName(), "type", enum("OTP_DEVICE_TYPE_", d.GetType()), "state", enum("OTP_DEVICE_STATE_", d.GetState()),
		"confirmed", when(d.GetConfirmTime()), "removed", when(d.GetRemoveTime()))
}

func (c *cli) otpSend() *cobra.Command {
	p := &personal{secrets: secrets{c: c}}
	return p.flags(verb("send DEVICE", "Send a password to a telephone or mailbox, to confirm, replace or remove it, or to change the PIN", args("DEVICE"), func(ctx context.Context, given []string) error {
		name, err := p.device(given[0])
		if err != nil {
			return err
		}
		api, err := c.authorizations()
		if err != nil {
			return err
		}
		sent, err := api.SendOtp(ctx, &signv1.SendOtpRequest{OtpDevice: name})
		if err != nil {
			return err
		}
		return c.print(sent, func() {
			c.fields("number for the app", sent.GetNumber(), "request", sent.GetPushRequest(), "device", sent.GetOtpDevice(), "sent to", sent.GetAddress(), "until", when(sent.GetExpireTime()))
		})
	}))
}

func (c *cli) otpConfirm() *cobra.Command {
	p := &personal{secrets: secrets{c: c}}
	var appKey string
	cmd := p.flags(verb("confirm DEVICE", "Confirm a device with its first password: it becomes the active one", args("DEVICE"), func(ctx context.Context, given []string) error {
		name, err := p.device(given[0])
		if err != nil {
			return err
		}
		api, err := c.authorizations()
		if err != nil {
			return err
		}
		req := &signv1.ConfirmOtpDeviceRequest{Name: name}
		if appKey != "" {
			req.Proof, err = c.enrolmentProof(name, appKey)
			if err == nil {
				req.Pin, err = p.pin(ctx, "PIN")
			}
		} else {
			req.Pin, req.Otp, err = p.both(ctx, " of the new device")
		}
		if err != nil {
			return err
		}
		done, err := api.ConfirmOtpDevice(ctx, req)
		if err != nil {
			return err
		}
		return c.print(done, func() { c.showDevice(done) })
	}))
	cmd.Flags().StringVar(&appKey, "app-key", "", "file with the key of an app that approves, which proves itself by it")
	return cmd
}

func (c *cli) otpRemove() *cobra.Command {
	p := &personal{secrets: secrets{c: c}}
	var pending bool
	cmd := p.flags(verb("rm DEVICE", "Remove a device; without one the credential cannot sign", args("DEVICE"), func(ctx context.Context, given []string) error {
		name, err := p.device(given[0])
		if err != nil {
			return err
		}
		api, err := c.authorizations()
		if err != nil {
			return err
		}
		req := &signv1.DeleteOtpDeviceRequest{Name: name}
		if pending {
			req.Pin, err = p.pin(ctx, "PIN")
		} else {
			req.Pin, req.Otp, err = p.both(ctx, " of the device")
		}
		if err != nil {
			return err
		}
		gone, err := api.DeleteOtpDevice(ctx, req)
		if err != nil {
			return err
		}
		return c.print(gone, func() { c.showDevice(gone) })
	}))
	cmd.Flags().BoolVar(&pending, "pending", false, "the device was never confirmed: ask for the PIN alone")
	return cmd
}

func (c *cli) otpList() *cobra.Command {
	p := &personal{secrets: secrets{c: c}}
	cmd := c.lister(verb("ls", "List the devices of a credential", args(), func(ctx context.Context, _ []string) error {
		parent, err := p.name()
		if err != nil {
			return err
		}
		api, err := c.authorizations()
		if err != nil {
			return err
		}
		page, err := collect(c, func(token string, size int32) (*signv1.ListOtpDevicesResponse, error) {
			return api.ListOtpDevices(ctx, &signv1.ListOtpDevicesRequest{Parent: parent, PageToken: token, PageSize: size})
		})
		if err != nil {
			return err
		}
		return c.print(page, func() {
			var rows [][]string
			for _, d := range page.GetOtpDevices() {
				rows = append(rows, []string{last(d.GetName()), enum("OTP_DEVICE_STATE_", d.GetState()), enum("OTP_DEVICE_TYPE_", d.GetType()), d.GetDisplayName(), when(d.GetConfirmTime())})
			}
			c.table([]string{"DEVICE", "STATE", "TYPE", "CALLED", "CONFIRMED"}, rows)
		})
	}))
	cmd.Flags().StringVar(&p.credential, "credential", os.Getenv("CERALACCA_CREDENTIAL"), "credential of kind person (CERALACCA_CREDENTIAL)")
	cmd.Flags().StringVar(&p.company, "company", os.Getenv("CERALACCA_COMPANY"), "company of a short name (CERALACCA_COMPANY)")
	return cmd
}
