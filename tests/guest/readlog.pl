#!/usr/bin/perl
# What the witness has said, from byte OFFSET of its log on: whole lines only, those with a checksum checked and
# shown without it. A line that was cut in two by a checkpoint or still grows is left out.
#
#	readlog.pl LOG [OFFSET]
#	readlog.pl LOG OFFSET SECONDS above N		wait until the last number that it counted is above N
#	readlog.pl LOG OFFSET SECONDS lines N		... until it has counted N times
#	readlog.pl LOG OFFSET SECONDS says PATTERN	... until a line matches, and show that line
#
# Exit 1: waited in vain. One process that waits, for the many that would ask: the guest needs the processor itself.
use strict;
use warnings;
use Time::HiRes qw(sleep time);

my ($file, $offset, $seconds, $what, $arg) = @ARGV;
my $end = defined $seconds ? time + $seconds : 0;
my ($in, $last, $lines) = (undef, undef, 0);
my $rest = '';

# The next whole line of the witness's own; nothing if there is none yet.
sub next_line {
	unless ($in) {
		open($in, '<:raw', $file) or return;	# nothing said yet
		if ($offset) {				# the rest of a line that began before is not ours
			seek($in, $offset - 1, 0);
			$rest = "\0";
		}
	}
	while (1) {
		seek($in, 0, 1);			# what has been written since
		my $more = <$in> // return;
		$rest .= $more;
		return unless $more =~ /\n\z/;
		(my $line = $rest) =~ s/\r?\n\z//;
		$rest = '';
		next if $line =~ /^\0/;
		if ($line =~ /^(?:R )?mem=/) {
			my ($text, $sum) = $line =~ /^((?:R )?mem=\d+(?: \w+=\w+)*) ~([0-9a-f]{8})\z/ or next;
			my $is = 0;
			$is = ($is * 31 + $_) & 0xffff for unpack 'C*', $text;
			next if hex $sum != $is;
			return $text;
		}
		return $line if $line =~ /^(?:BAD|ERR|TRAP|V|C|F|G|Z|boot|witness)\b/;
	}
}

unless (defined $what) {
	while (defined(my $line = next_line())) {
		print "$line\n";
	}
	exit 0;
}
while (1) {
	while (defined(my $line = next_line())) {
		if ($what eq 'says') {
			next unless $line =~ /$arg/;
			print "$line\n";
			exit 0;
		}
		($last, $lines) = ($1, $lines + 1) if $line =~ /^mem=(\d+)/;
	}
	exit 0 if $what eq 'above' && defined $last && $last > $arg;
	exit 0 if $what eq 'lines' && $lines >= $arg;
	exit 1 if time > $end;
	sleep 0.02;
}
