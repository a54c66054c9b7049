//go:build !linux

package uml

import (
	"errors"
	"runtime"
	"syscall"
)

func supported() error { return errors.New("uml: no User-Mode Linux on " + runtime.GOOS) }

func ownGroup() *syscall.SysProcAttr { return nil }

func endGroup(int) {}

func inNetNS(string, func() error) error { return supported() }
