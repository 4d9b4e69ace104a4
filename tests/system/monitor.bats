#!/usr/bin/env bats
# What is handed through to QEMU's monitor and to the guest agent, and what comes of an error.
bats_require_minimum_version 1.5.0
load helper

setup() {
	root_make
	witness_vm w 1
}

teardown() {
	root_end
}

# An agent that answers what it is asked with success for guest-ping, and with an error for all else
agent_of_ours() {
	local sock=$FERMATA_ROOT/run/fermata/w/agent.sock
	rm "$sock"
	perl -MIO::Socket::UNIX -MJSON::PP -e '
		my $l = IO::Socket::UNIX->new(Local => $ARGV[0], Listen => 5) or die;
		while (my $c = $l->accept) {
			$c->autoflush(1);
			while (my $line = <$c>) {
				$line =~ s/^\xff+//;
				my $q = eval { decode_json($line) } or next;
				if ($q->{execute} =~ /sync/) { print $c "\xff{\"return\": $q->{arguments}{id}}\n" }
				elsif ($q->{execute} eq "guest-ping") { print $c "{\"return\": {}}\n" }
				else { print $c "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no such luck\"}}\n" }
			}
		}' "$sock" 3>&- &
	agent=$!
	wait_until 10 test -S "$sock"
}

@test "qemu-agent-command: what the agent refuses is a failure, in its words" {
	sed -i '1i agent = yes' "$FERMATA_ROOT/etc/fermata/w.conf"
	fermata start w --paused
	agent_of_ours
	fermata qemu-agent-command w '{"execute":"guest-ping"}'
	run --separate-stderr fermata qemu-agent-command w '{"execute":"guest-fsfreeze-freeze"}'
	kill "$agent"
	[ "$status" = 1 ]
	[[ $stderr == *"w: "*"'guest-fsfreeze-freeze': no such luck" ]]
	[ -z "$output" ]
}

@test "qemu-monitor-command: an error is printed as it came, and is a failure" {
	fermata start w --paused
	run --separate-stderr fermata qemu-monitor-command w '{"execute":"no-such"}'
	[ "$status" = 1 ]
	[[ $output == *'"error"'* ]]
	[[ $stderr == *"no-such"* ]]
	run --separate-stderr fermata qemu-monitor-command --pretty w '{"execute":"query-status"}'
	[ "$status" = 0 ]
	run --separate-stderr fermata qemu-monitor-command w --hmp 'device_del nobody'
	[ "$status" = 1 ]
	[[ $output == Error:* ]]
	[[ $stderr == *nobody* ]]
	run --separate-stderr fermata qemu-monitor-command w --hmp 'info status'
	[ "$status" = 0 ]
}
