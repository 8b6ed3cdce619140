-- outbox --------------------------------------------------------------------------------------------------------------

-- Names are escaped where they are joined in a pack. The same id with other bytes would be a conflict: a pack whose bytes
-- change is cut anew under another id.
DELETE FROM outbox_pack WHERE EXISTS (
  SELECT 1 FROM outbox_measurement JOIN outbox_series ON number = series
  WHERE sequence BETWEEN first AND last
    AND device || property GLOB '*[%/' || char(1) || '-' || char(31) || char(127) || ']*');
