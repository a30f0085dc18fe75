package poller

import (
	"errors"
	"fmt"
	"reflect"
	"unsafe"

	"github.com/cloudwego/netpoll"
	"golang.org/x/sys/unix"
)

// This file is the only one that knows netpoll's insides. Four things are
// needed that netpoll v0.7.2 does not export; a change of any of them upstream
// fails at link time or in selfTest, which runs whenever a Poller is made.
//
//  1. a constructor of a Poll: by linkname (an empty .s file allows the
//     declaration without a body);
//  2. a cap on its event array, which otherwise doubles up to 175 MB per poller
//     after one storm and never shrinks: by the exported field Reset of the
//     unexported defaultPoll;
//  3. its epoll descriptor: netpoll can only switch between "readable" and
//     "readable or writable", and detaches on a half-close. A connection whose
//     reading is paused must still flush its queue, and a peer that shut down
//     its sending side must still get its answers; both need an event mask of
//     our own, set by epoll_ctl on the same operator;
//  4. a registration with that mask from the first moment on: see register.

//go:linkname openPoll github.com/cloudwego/netpoll.openPoll
func openPoll() (netpoll.Poll, error)

// maxEvents is how many events one epoll_wait may return: 100 B each, per loop.
const maxEvents = 512

// newPoll opens a netpoll poller and returns it with its epoll descriptor.
// The caller runs Wait on a goroutine of its own and later calls Close.
func newPoll() (netpoll.Poll, int, error) {
	p, err := openPoll()
	if err != nil {
		return nil, -1, fmt.Errorf("netpoll: open a poller: %w", err)
	}
	v := reflect.ValueOf(p)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return nil, -1, errors.New("netpoll: a Poll is no longer a pointer to a struct")
	}
	fd, reset := v.Elem().FieldByName("fd"), v.Elem().FieldByName("Reset")
	if !fd.IsValid() || !fd.CanInt() {
		return nil, -1, errors.New("netpoll: a Poll has no field fd")
	}
	orig, ok := resetFunc(reset)
	if !ok {
		return nil, -1, errors.New("netpoll: a Poll has no field Reset of type func(int, int)")
	}
	done := false
	reset.Set(reflect.ValueOf(func(int, int) {
		if !done { // later calls ask for growth: the array stays as it is
			done = true
			orig(maxEvents, 1) // FDOperator.OnRead never uses the second array
		}
	}))
	return p, int(fd.Int()), nil
}

func resetFunc(v reflect.Value) (func(size, caps int), bool) {
	if !v.IsValid() || !v.CanSet() {
		return nil, false
	}
	f, ok := v.Interface().(func(size, caps int))
	return f, ok
}

// register makes the poller whose descriptor is epfd report events for an operator.
// netpoll's own registration also asks for EPOLLRDHUP: a peer that has already shut down
// its sending side would be detached before setMask could take that back. So the
// descriptor is added here. Control then finds it there, and all that is left of it
// is what cannot be had otherwise: it marks the operator as in use. Until then the
// loop passes over the operator's events.
func register(epfd int, op *netpoll.FDOperator, fd int, events uint32) error {
	if err := epollCtl(epfd, unix.EPOLL_CTL_ADD, op, fd, events); err != nil {
		return err
	}
	err := op.Control(netpoll.PollReadable)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return errors.Join(errors.New("netpoll: it registered a descriptor that its epoll had"), err)
}

// setMask makes epoll report other events for an operator that is registered with
// the poller whose descriptor is epfd. Hang-up and error are always reported.
func setMask(epfd int, op *netpoll.FDOperator, fd int, events uint32) error {
	return epollCtl(epfd, unix.EPOLL_CTL_MOD, op, fd, events)
}

func epollCtl(epfd, how int, op *netpoll.FDOperator, fd int, events uint32) error {
	ev := unix.EpollEvent{Events: events}
	setEventData(&ev, op, fd)
	_, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(epfd), uintptr(how),
		uintptr(fd), uintptr(unsafe.Pointer(&ev)), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
