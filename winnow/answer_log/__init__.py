"""What gateways answered, as they log it: the files, and which users were deleted from them."""
