package bench

import (
	"strings"

	"github.com/millpond/millpond/bench/report"
)

// Names and units of figures that several scenarios have.
const (
	costNames    = "server-cpu:% client-cpu:% rss:B client-rss:B "
	verdictNames = "lost doubled reordered offset-faults changed misplaced foreign epoch-faults late "
	returnNames  = "returns recoveries recovered unrecovered skipped "
	visitNames   = "visits/s:/s visits-missed "
)

func costNamesOf(each string) string {
	return "cpu-us/" + each + ":us client-cpu-us/" + each + ":us "
}

func latencyNames(prefix string) string {
	return strings.ReplaceAll("@p50:ns @p90:ns @p99:ns @p99.9:ns @max:ns ", "@", prefix)
}

var deliveryNames = "deliveries/s:/s " + latencyNames("") + costNamesOf("delivery") + costNames

// figures are each scenario's, as "name:unit". The causes of returns are not among them: they are the server's words.
var figures = map[string]string{
	"idle": "open connects/s:/s bytes/conn:B tcp-bytes/conn:B kernel-bytes/conn:B client-bytes/conn:B goroutines goroutines-without rss-before:B " +
		"server-cpu:% server-cpu-without:% server-cpu-100k:% bytes-afterwards:B " + latencyNames("connect-"),
	"echo": "messages/s:/s " + latencyNames("") + costNamesOf("message") + costNames + "lost x-of-bare:x bare-cpu-us/message:us",
	"slow": "stalled p99-with/without:x p99-without:ns p99-with:ns bytes/stalled:B " + costNamesOf("message") + costNames,
	"connect": "open refused connects/s:/s took:s implied:s backlog-overflows " + latencyNames("connect-") + costNamesOf("connect") + costNames +
		"p99-before:ns p99-dialing:ns p99-during:ns p99-leaving:ns p99-elsewhere-dialing:ns p99-elsewhere:ns p99-elsewhere-leaving:ns " +
		"during/elsewhere:x during/before:x",
	"handshakes": "full/cpu-s:/s full/s:/s net-http-full/cpu-s:/s full-x-of-net-http:x " +
		"resumed/cpu-s:/s resumed/s:/s net-http-resumed/cpu-s:/s resumed-x-of-net-http:x",
	"fanout": deliveryNames + verdictNames + "publications/s:/s x-of-bare:x cpu-us/delivery-beside:us bare-cpu-us/delivery:us " +
		"x-of-bare-queued:x cpu-us/delivery-queued-beside:us bare-cpu-us/delivery-queued:us",
	"personal": deliveryNames + verdictNames + "bytes/conn:B bytes/conn-subscribed:B client-bytes/conn:B subscribes/s:/s broadcast-personal:s publish-shared:s " +
		"goroutines goroutines-without present bytes-afterwards:B",
	"churn":   deliveryNames + verdictNames + visitNames + latencyNames("without-") + latencyNames("visit-") + "bytes-afterwards:B",
	"recover": deliveryNames + verdictNames + returnNames + "checked publications/s:/s",
	"drain":   latencyNames("") + verdictNames + returnNames + "back:s refused retried publications/s:/s",
	"mixed": deliveryNames + verdictNames + returnNames + visitNames + latencyNames("visit-") + "publications/s:/s bytes-afterwards:B " +
		"announcements personal/s:/s shared/s:/s announced/s:/s asks/s:/s presence-calls/s:/s history-calls/s:/s presence-faults history-faults " +
		latencyNames("personal-") + latencyNames("shared-") + latencyNames("announced-") + latencyNames("ask-") +
		latencyNames("presence-") + latencyNames("history-"),
	"api": "single/s:/s batch/s:/s broadcast/s:/s bulk/s:/s " +
		costNamesOf("single") + costNamesOf("batch") + costNamesOf("broadcast") + costNamesOf("bulk"),
}

// CheckLimits says, before a scenario runs, which limits are on figures that it never has, or in units that those have
// not.
func CheckLimits(s Scenario, limits []report.Limit) error {
	var all []report.Figure
	for name := range strings.FieldsSeq(figures[s.Name()]) {
		name, unit, _ := strings.Cut(name, ":")
		all = append(all, report.Figure{Name: name, Unit: unit})
	}
	var known []report.Limit
	for _, l := range limits {
		if !strings.HasPrefix(l.Name, causePrefix) {
			known = append(known, l)
		}
	}
	return report.CheckLimits(s.Name(), known, all)
}

// causePrefix is of the figures that say how often subscribers came back after what.
const causePrefix = "after: "
