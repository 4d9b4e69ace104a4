#!/usr/bin/perl
# What the witness has said, from byte OFFSET of its log on: whole lines only, those with a checksum checked and
# shown without it. A line that was cut in two by a checkpoint or still grows is left out.
#
#	readlog.pl LOG [OFFSET]
use strict;
use warnings;

my ($file, $offset) = @ARGV;
open(my $in, '<:raw', $file) or exit 0;		# nothing said yet
if ($offset) {				# the rest of a line that began before is not ours
	seek($in, $offset - 1, 0);
	<$in>;
}
while (my $line = <$in>) {
	$line =~ s/\r?\n\z// or last;
	if ($line =~ /^(?:R )?mem=/) {
		my ($text, $sum) = $line =~ /^((?:R )?mem=\d+(?: \w+=\w+)*) ~([0-9a-f]{8})\z/ or next;
		my $is = 0;
		$is = ($is * 31 + ord) & 0xffff for split //, $text;
		next if hex $sum != $is;
		$line = $text;
	}
	print "$line\n" if $line =~ /^(?:(?:R )?mem=|(?:BAD|ERR|TRAP|V|C|G|Z|boot|witness)\b)/;
}
